//! How the board looks: a ring, a table of nodes, a curve of requests, and what happened.

use ratatui::Frame;
use ratatui::layout::Constraint;
use ratatui::layout::Layout;
use ratatui::layout::Rect;
use ratatui::style::Color;
use ratatui::style::Modifier;
use ratatui::style::Style;
use ratatui::text::Line;
use ratatui::text::Span;
use ratatui::widgets::Block;
use ratatui::widgets::Cell;
use ratatui::widgets::Paragraph;
use ratatui::widgets::Row as TableRow;
use ratatui::widgets::Sparkline;
use ratatui::widgets::Table;

use crate::ring;
use crate::top::figures::Board;
use crate::top::figures::Figures;
use crate::top::figures::Row;

/// The width of the bar of a node's memory.
const MEMORY_BAR: usize = 10;
/// Lines of the curve.
const CURVE: u16 = 4;

/// Draws everything.
pub fn draw(board: &Board, frame: &mut Frame<'_>) {
    let rows = u16::try_from(board.rows.len()).unwrap_or(u16::MAX).saturating_add(3);
    let areas = Layout::vertical([
        Constraint::Length(1),
        Constraint::Length(4),
        Constraint::Length(rows),
        Constraint::Length(CURVE + 2),
        Constraint::Min(3),
        Constraint::Length(1),
    ])
    .split(frame.area());
    frame.render_widget(Paragraph::new(title(board)), areas[0]);
    draw_ring(board, frame, areas[1]);
    draw_nodes(board, frame, areas[2]);
    draw_curve(board, frame, areas[3]);
    let lists = Layout::horizontal([Constraint::Fill(3), Constraint::Fill(2)]).split(areas[4]);
    draw_events(board, frame, lists[0]);
    draw_attention(board, frame, lists[1]);
    let hint = Span::styled("q quits", Style::new().add_modifier(Modifier::DIM));
    frame.render_widget(Paragraph::new(hint), areas[5]);
}

fn title(board: &Board) -> Line<'static> {
    let figures: Vec<&Figures> = board.rows.iter().filter_map(|row| row.figures.as_ref()).collect();
    let keys: u64 = figures.iter().map(|figures| figures.keys).sum();
    let requests: f64 = figures.iter().map(|figures| figures.requests_per_second).sum();
    let up = board.rows.iter().filter(|row| row.node.is_up()).count();
    let text = format!(
        "CacheGopher {}  {up} of {} nodes up  {keys} keys  {requests:.0} requests/s",
        board.look().clock,
        board.rows.len()
    );
    Line::styled(text, Style::new().add_modifier(Modifier::BOLD))
}

fn draw_ring(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("ring: primaries above, replicas below");
    let inner = block.inner(area);
    let look = board.look();
    let row = |holder: fn(&cachegopher::client::RingRange) -> Option<&String>| {
        let parts = ring::parts(&look.nodes, &look.ring, usize::from(inner.width), holder);
        let span = |part: &Option<usize>| match part {
            Some(node) => Span::styled(ring::letter(*node).to_string(), colour(*node)),
            None => Span::raw("-"),
        };
        Line::from(parts.iter().map(span).collect::<Vec<_>>())
    };
    let lines = vec![row(|range| range.primary.as_ref()), row(|range| range.replicas.first())];
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

fn colour(node: usize) -> Style {
    Style::new().fg(Color::Indexed(ring::colour(node)))
}

/// A column: its heading, its width, and how early it is left out where there is no room.
const COLUMNS: [(&str, u16, usize); 12] = [
    ("", 1, 0),
    ("node", 0, 0),
    ("state", 9, 0),
    ("prim", 4, 4),
    ("repl", 4, 5),
    ("keys", 9, 1),
    ("memory", 18, 3),
    ("req/s", 8, 1),
    ("hits", 7, 4),
    ("evict/s", 7, 6),
    ("conn", 5, 6),
    ("lag", 8, 2),
];

fn draw_nodes(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("nodes");
    let name = board.rows.iter().map(|row| row.node.name.len()).max().unwrap_or(4).clamp(4, 22);
    let shown = shown(usize::from(block.inner(area).width), name);
    let rows = board.rows.iter().enumerate().map(|(position, row)| {
        let cells = cells(position, row).into_iter().zip(&shown).filter(|(_, is_shown)| **is_shown);
        let style = match (row.node.state.as_str(), &row.figures) {
            ("dead", _) => Style::new().fg(Color::Red),
            ("alive", Some(_)) => Style::new(),
            (_, Some(_) | None) => Style::new().fg(Color::Yellow),
        };
        TableRow::new(cells.map(|(cell, _)| Cell::from(cell))).style(style)
    });
    let columns = COLUMNS.iter().zip(&shown).filter(|(_, is_shown)| **is_shown).map(|(column, _)| column);
    let widths = columns.clone().map(|(_, width, _)| match width {
        0 => Constraint::Length(u16::try_from(name).unwrap_or(22)),
        width => Constraint::Length(*width),
    });
    let head = columns.clone().map(|(head, _, _)| Cell::from(*head));
    let head = TableRow::new(head).style(Style::new().add_modifier(Modifier::BOLD));
    frame.render_widget(Table::new(rows, widths).header(head).block(block), area);
}

/// Which columns there is room for: a figure that is cut off would be a wrong one.
fn shown(width: usize, name: usize) -> [bool; COLUMNS.len()] {
    let mut shown = [true; COLUMNS.len()];
    let taken = |shown: &[bool]| -> usize {
        let widths = COLUMNS.iter().map(|(_, width, _)| if *width == 0 { name } else { usize::from(*width) });
        widths.zip(shown).filter(|(_, is_shown)| **is_shown).map(|(width, _)| width + 1).sum()
    };
    let mut order: Vec<usize> = (0..COLUMNS.len()).filter(|column| COLUMNS[*column].2 > 0).collect();
    order.sort_by_key(|column| (COLUMNS[*column].2, *column));
    while taken(&shown) > width + 1
        && let Some(column) = order.pop()
    {
        shown[column] = false;
    }
    shown
}

/// What stands in a row.
fn cells(position: usize, row: &Row) -> [Span<'static>; COLUMNS.len()] {
    let node = &row.node;
    let letter = Span::styled(ring::letter(position).to_string(), colour(position));
    let is_silent = row.figures.is_none() && node.is_up();
    let state = if is_silent { "no answer" } else { node.state.as_str() };
    let figure =
        |show: &dyn Fn(&Figures) -> String| row.figures.as_ref().map_or_else(|| "-".to_owned(), show);
    let words = [
        node.name.clone(),
        state.to_owned(),
        node.primaries.to_string(),
        node.replicas.to_string(),
        figure(&|figures| figures.keys.to_string()),
        figure(&memory),
        figure(&|figures| format!("{:.0}", figures.requests_per_second)),
        figure(&|figures| {
            figures.hit_ratio.map_or_else(|| "-".to_owned(), |ratio| format!("{:.1} %", ratio * 100.0))
        }),
        figure(&|figures| format!("{:.0}", figures.evictions_per_second)),
        figure(&|figures| figures.connections.to_string()),
        figure(&|figures| bytes(figures.lag_bytes)),
    ];
    let mut words = words.into_iter();
    std::array::from_fn(|column| match column {
        0 => letter.clone(),
        _ => Span::raw(words.next().unwrap_or_default()),
    })
}

fn memory(figures: &Figures) -> String {
    let share = figures.memory_bytes as f64 / figures.memory_bytes_max.max(1) as f64;
    let filled = ((share * MEMORY_BAR as f64).ceil() as usize).min(MEMORY_BAR);
    format!("{}{} {:>7}", "█".repeat(filled), "░".repeat(MEMORY_BAR - filled), bytes(figures.memory_bytes))
}

fn bytes(count: u64) -> String {
    const UNITS: [&str; 4] = ["B", "KB", "MB", "GB"];
    let mut count = count as f64;
    let mut unit = 0;
    while count >= 1_000.0 && unit + 1 < UNITS.len() {
        count /= 1_000.0;
        unit += 1;
    }
    let digits = usize::from(unit > 0 && count < 100.0);
    format!("{count:.digits$} {}", UNITS[unit])
}

fn draw_curve(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let most = board.rates.iter().max().copied().unwrap_or_default();
    let block = Block::bordered().title(format!("requests/s of all nodes, at most {most}"));
    let width = usize::from(block.inner(area).width);
    let rates = &board.rates[board.rates.len().saturating_sub(width)..];
    frame.render_widget(Sparkline::default().data(rates).block(block), area);
}

fn draw_events(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let block = Block::bordered().title("events, the latest first");
    let room = usize::from(block.inner(area).height);
    let lines: Vec<Line<'_>> = board
        .events
        .iter()
        .rev()
        .take(room)
        .map(|(clock, text)| Line::raw(format!("{clock} {text}")))
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block), area);
}

/// What wants attention: the hot keys, and below them the slow commands.
fn draw_attention(board: &Board, frame: &mut Frame<'_>, area: Rect) {
    let look = board.look();
    let halves = Layout::vertical([Constraint::Fill(1), Constraint::Fill(1)]).split(area);
    for (title, lines, half) in
        [("hot keys, requests/s", &look.hot, halves[0]), ("slow commands", &look.slow, halves[1])]
    {
        let lines: Vec<Line<'_>> = lines.iter().map(|line| Line::raw(line.as_str())).collect();
        frame.render_widget(Paragraph::new(lines).block(Block::bordered().title(title)), half);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use cachegopher::client::NodeInfo;
    use cachegopher::client::RingRange;
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::top::figures::Look;

    fn board() -> Board {
        let node = |name: &str, state: &str| NodeInfo {
            name: name.to_owned(),
            state: state.to_owned(),
            address: format!("{name}:1"),
            primaries: 2_048,
            replicas: 2_048,
        };
        let ring =
            vec![RingRange { first: 0, last: 4_095, primary: Some("n1".to_owned()), replicas: Vec::new() }];
        let stats = [("keys", "12345"), ("memory_bytes", "128000000"), ("memory_bytes_max", "256000000")];
        let stats = stats.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter().collect();
        let look = |seconds, second: &str| Look {
            nodes: vec![node("n1", "alive"), node("n2", second)],
            ring: ring.clone(),
            stats: [("n1:1".to_owned(), std::clone::Clone::clone(&stats))].into_iter().collect(),
            at: Duration::from_secs(seconds),
            clock: "12:34:56".to_owned(),
            hot: vec!["640 greeting".to_owned()],
            slow: vec!["n1 7 took_us=12000 KEYS".to_owned()],
        };
        let mut board = Board::default();
        board.take(look(0, "alive"));
        board.take(look(1, "dead"));
        board
    }

    fn screen(width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(&board(), frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let row =
            |row: u16| (0..width).map(|column| buffer[(column, row)].symbol()).collect::<String>() + "\n";
        (0..height).map(row).collect()
    }

    #[test]
    fn the_screen_says_everything_in_words_too() {
        let screen = screen(110, 30);
        for text in [
            "CacheGopher 12:34:56  1 of 2 nodes up  12345 keys",
            &"A".repeat(108),
            "A n1   alive     2048 2048 12345     █████░░░░░  128 MB",
            "B n2   dead      2048 2048 -         -",
            "12:34:56 n2 is dead, it was alive",
            "hot keys, requests/s",
            "640 greeting",
            "n1 7 took_us=12000 KEYS",
            "q quits",
        ] {
            assert!(screen.contains(text), "{text:?} is missing in\n{screen}");
        }
    }

    #[test]
    fn where_there_is_no_room_whole_columns_are_left_out_instead_of_digits() {
        let narrow = screen(60, 20);
        assert!(narrow.contains("A n1   alive     12345     "), "{narrow}");
        assert!(narrow.contains("lag") && !narrow.contains("evict") && !narrow.contains("repl "), "{narrow}");
        assert_eq!(shown(108, 4), [true; COLUMNS.len()]);
        let kept = shown(10, 4);
        assert_eq!(kept.iter().filter(|is_shown| **is_shown).count(), 3);
    }

    #[test]
    fn a_small_screen_is_no_trouble() {
        for (width, height) in [(40, 12), (10, 3), (1, 1)] {
            screen(width, height);
        }
    }
}
