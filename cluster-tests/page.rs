//! The page of the administrative port in a real browser: it shows a cluster, and how a node that is
//! killed is replaced. The pictures are for people: they are in `.run/page`.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "support/browser.rs"]
mod browser;
#[path = "support/mod.rs"]
mod support;

use browser::Browser;
use support::LONG;
use support::alone;
use support::cluster::Cluster;
use support::eventually;

/// Waits until an expression in the page is true.
async fn shows(browser: &Browser, condition: &str) {
    eventually(LONG, async || match browser.value(&format!("return Boolean({condition})")) {
        value if value == true => Ok(()),
        _ => Err(format!("{condition} in {}", browser.value("return document.body.innerText"))),
    })
    .await;
}

fn state_is(node: &str, state: &str) -> String {
    format!("document.querySelector('tr[data-name={node}][data-state={state}]')")
}

#[test]
fn a_person_sees_on_the_page_how_a_killed_node_is_replaced() {
    alone(async {
        let Some(browser) = Browser::start() else { return };
        let mut cluster = Cluster::start(3).await;
        let mut client = cluster.nodes[2].connect().await;
        for number in 0..200 {
            client.ask(format!("SET key-{number} value")).await;
        }
        browser.open(&format!("http://{}/", cluster.nodes[0].admin_address()));
        for node in ["n1", "n2", "n3"] {
            shows(&browser, &state_is(node, "alive")).await;
        }
        shows(&browser, "document.getElementById('state').textContent.includes('all copies in place')").await;
        shows(&browser, "document.getElementById('sums-list').innerText.includes('200')").await;
        browser.looks_like(1440, false);
        browser.picture("1440-light");

        cluster.nodes[1].kill();
        cluster.nodes[1].ended().await;
        shows(&browser, &state_is("n2", "dead")).await;
        shows(&browser, "document.querySelector('li[data-kind=promoted][data-member=n2]')").await;
        let told = browser.value("return document.querySelector('li[data-kind=promoted]').innerText");
        let told = told.as_str().unwrap();
        assert!(told.contains("n2 is replaced in ") && told.contains(" ms: of its "), "{told}");
        // Its arcs are those of the others now.
        shows(
            &browser,
            "cluster.nodes[1].primaries === 0 && !owners.includes('n2') && !owners.includes(null)",
        )
        .await;
        for (width, is_dark) in [(1440, true), (1440, false), (375, false), (375, true)] {
            browser.looks_like(width, is_dark);
            shows(&browser, "document.documentElement.scrollWidth <= innerWidth").await;
            let fits = "[...document.querySelectorAll('section')].every((one) => one.scrollWidth <= one.clientWidth)";
            shows(&browser, fits).await;
            browser.picture(&format!("{width}-{}-killed", if is_dark { "dark" } else { "light" }));
        }

        browser.looks_like(1440, false);
        browser.press(&browser::TAB);
        shows(&browser, "document.activeElement.dataset.node === 'n1'").await;
        browser.press(&browser::ENTER);
        shows(
            &browser,
            "document.querySelector('button[data-node=n1]').getAttribute('aria-pressed') === 'true'",
        )
        .await;
        shows(&browser, "document.querySelectorAll('#ring g.off').length === 2").await;

        let elsewhere = "return performance.getEntriesByType('resource').map((one) => one.name)\
                         .filter((name) => !name.startsWith(location.origin))";
        assert_eq!(browser.value(elsewhere).as_array().map(Vec::len), Some(0));
        cluster.nodes[1].start_again();
        shows(&browser, &state_is("n2", "alive")).await;
        shows(&browser, "document.querySelector('li[data-kind=joined][data-member=n2]')").await;
        let complaints = browser.complaints();
        assert!(complaints.is_empty(), "{complaints:#?}");
    });
}
