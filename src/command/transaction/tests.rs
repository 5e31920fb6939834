use super::*;
use crate::command::parse;
use crate::time::Timestamp;

fn words(line: &str) -> Vec<Bytes> {
    line.split(' ').map(|word| Bytes::copy_from_slice(word.as_bytes())).collect()
}

fn parsed(words: &[Bytes]) -> Result<Command, Refusal> {
    parse(words, Timestamp::from_millis(1_000), 64)
}

fn send(transaction: &mut Transaction, line: &str) -> String {
    let words = words(line);
    match transaction.admit(&words, parsed(&words)) {
        Admitted::Run(Command::Exec) => transaction.take().0.len().to_string(),
        Admitted::Run(_) => "runs".to_owned(),
        Admitted::Kept => "QUEUED".to_owned(),
        Admitted::Done => "OK".to_owned(),
        Admitted::Refused(refusal) => refusal.to_string(),
    }
}

/// Requests and what becomes of them, in lines of `request => answer`.
fn play(script: &str) {
    let mut transaction = Transaction::default();
    for line in script.lines().map(str::trim) {
        let (request, expected) = line.split_once(" => ").unwrap();
        assert_eq!(send(&mut transaction, request), expected, "{line}");
    }
}

fn plan(lines: &[&str], watched: &[&'static str]) -> Plan {
    let commands = lines.iter().map(|line| parsed(&words(line))).collect();
    let mark = |key: &&'static str| Mark { key: Bytes::from_static(key.as_bytes()), was: Bytes::new() };
    Plan::new(commands, watched.iter().map(mark).collect()).unwrap()
}

fn shape(together: &KeyCommand) -> (usize, usize) {
    match &together.op {
        Op::Together(together) => (together.unchanged.len(), together.commands.len()),
        other => panic!("{other:?}"),
    }
}

#[test]
fn commands_are_kept_from_multi_to_exec() {
    play(
        "GET a => runs
         EXEC => EXEC without MULTI
         DISCARD => DISCARD without MULTI
         MULTI => OK
         GET a => QUEUED
         MULTI => MULTI calls can not be nested
         WATCH a => WATCH inside MULTI is not allowed
         UNWATCH => QUEUED
         INCRBY a x => QUEUED
         EXEC => 3
         GET a => runs
         MULTI => OK
         EXEC => 0
         MULTI => OK
         SET a b => QUEUED
         DISCARD => OK
         EXEC => EXEC without MULTI
         MULTI => OK
         QUIT => runs
         RESET => runs",
    );
}

#[test]
fn a_request_that_is_no_command_makes_exec_refuse_all_others() {
    play(
        "MULTI => OK
         SET a b => QUEUED
         NOTHING a => Unknown command: NOTHING
         SET b c => QUEUED
         EXEC => Transaction discarded because of previous errors.
         EXEC => EXEC without MULTI
         MULTI => OK
         GET => wrong number of arguments for 'get' command
         EXEC => Transaction discarded because of previous errors.
         MULTI => OK
         HELLO 3 => Command not allowed inside a transaction
         DISCARD => OK
         MULTI => OK
         EXEC => 0",
    );
}

#[test]
fn what_is_kept_is_bounded_and_given_back_when_it_is_too_much() {
    let mut transaction = Transaction::default();
    send(&mut transaction, "MULTI");
    let long = vec![Bytes::from_static(b"GET"), vec![b'k'; TRANSACTION_BYTES_MAX / 3].into()];
    let get = || Ok(Command::Key(KeyCommand::new(Bytes::new(), Op::Get)));
    assert_eq!(transaction.admit(&long, get()), Admitted::Kept);
    assert_eq!(transaction.admit(&long, get()), Admitted::Kept);
    let refused = transaction.admit(&long, get());
    assert!(matches!(refused, Admitted::Refused(Refusal::TransactionTooLarge { scope: "all", .. })));
    assert_eq!(transaction.len(), Some(0));
    assert_eq!(send(&mut transaction, "EXEC"), "Transaction discarded because of previous errors.");
}

#[test]
fn a_key_is_watched_as_it_was_first_and_only_so_many_are() {
    let mut transaction = Transaction::default();
    let keys = |range: std::ops::Range<usize>| range.map(|n| Bytes::from(n.to_string())).collect();
    let new = transaction.unwatched(keys(0..2)).unwrap();
    transaction.watch(new.into_iter().map(|key| Mark { key, was: Bytes::from_static(b"first") }));
    assert_eq!(transaction.unwatched(keys(1..3)).unwrap(), BTreeSet::from([Bytes::from_static(b"2")]));
    assert!(transaction.unwatched(keys(2..WATCHED_MAX)).is_ok());
    let refused = transaction.unwatched(keys(2..WATCHED_MAX + 1)).unwrap_err();
    assert_eq!(refused, Refusal::TooManyWatched { keys_max: WATCHED_MAX });
    assert_eq!(send(&mut transaction, "UNWATCH"), "OK");
    assert!(transaction.is_empty());
}

#[test]
fn commands_of_one_partition_are_one_part_which_checks_for_itself() {
    let plan = plan(&["SET {t}a 1", "MGET {t}a {t}b", "PING"], &["{t}c", "{t}a"]);
    assert!(plan.is_one_part() && plan.checks.is_empty());
    assert_eq!((plan.len, plan.steps.len()), (3, 1));
    assert_eq!(plan.steps[0].parts.iter().map(shape).collect::<Vec<_>>(), [(2, 3)]);
    assert_eq!(
        plan.steps[0].items,
        [
            Planned::One((0, 0)),
            Planned::Gathered(Gather::List, vec![(0, 1), (0, 2)]),
            Planned::Ready(Reply::Pong)
        ]
    );
}

#[test]
fn commands_of_several_partitions_are_checked_first_and_keep_their_order_in_each() {
    let plan = plan(&["SET a 1", "SET b 1", "DEL a b"], &["a", "z"]);
    assert!(!plan.is_one_part());
    assert_eq!(plan.checks.iter().map(shape).collect::<Vec<_>>(), [(1, 0), (1, 0)]);
    let [step] = &plan.steps[..] else { panic!("one step") };
    assert_eq!(step.parts.iter().map(shape).collect::<Vec<_>>(), [(1, 2), (0, 2)]);
    let places = vec![(0, 1), (1, 1)];
    assert_eq!(
        step.items,
        [Planned::One((0, 0)), Planned::One((1, 0)), Planned::Gathered(Gather::Sum, places)]
    );
}

#[test]
fn what_is_about_more_than_keys_ends_a_step_and_later_steps_do_not_check_again() {
    let plan = plan(&["SET a 1", "FLUSHALL", "SET a 2", "INCRBY a x"], &["a"]);
    assert!(!plan.is_one_part());
    assert_eq!(plan.checks.len(), 1);
    let [first, second] = &plan.steps[..] else { panic!("two steps") };
    assert_eq!(first.last, Some(Command::Flush));
    assert_eq!((shape(&first.parts[0]), shape(&second.parts[0])), ((1, 1), (0, 1)));
    assert_eq!(second.items[1], Planned::Ready(Reply::Refused(Invalid::NotInteger.into())));
}

#[test]
fn a_transaction_that_only_watches_still_checks() {
    let plan = plan(&["PING"], &["a"]);
    assert_eq!((plan.checks.len(), plan.is_one_part()), (1, false));
}

#[test]
fn the_commands_of_one_partition_must_fit_a_frame() {
    let set = |key: &'static [u8]| {
        let value = Bytes::from(vec![0; PART_BYTES_MAX / 2]);
        Ok(Command::Key(KeyCommand::set(Bytes::from_static(key), value)))
    };
    assert!(Plan::new(vec![set(b"a"), set(b"b"), set(b"c")], Vec::new()).is_ok());
    let refused = Plan::new(vec![set(b"a"), set(b"a")], Vec::new()).unwrap_err();
    assert!(matches!(refused, Refusal::TransactionTooLarge { scope: "one partition", .. }), "{refused}");
}
