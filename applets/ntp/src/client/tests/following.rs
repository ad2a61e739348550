//! Whom the clock follows while servers fall silent, are taken off the list or may not be asked.

use super::*;

/// Nobody is selected any more; the clock goes on by what is known, and says whom it followed.
fn assert_alone(case: &Case, last: &str) {
    let report = &case.client.clock.report;
    assert_eq!(report.selected, None);
    let used = |source: &Source| source.verdict.is_some();
    assert!(!case.client.sources.iter().any(used), "{:#?}", case.client.sources);
    assert!(case.client.clock.is_synchronized(case.now) && report.leap == Leap::None);
    assert_eq!(report.reference.unwrap().address.to_string(), last);
    // The kernel's bound still has the way to that server in it: 5 ms, and 1.5 ms that it admits.
    let steering = case.client.clock.steering(case.now, 0, &case.client.sources);
    assert!(steering.maxerror > 0.0064, "{steering:?}");
}

fn selected(case: &Case) -> Option<String> {
    let id = case.client.clock.report.selected?;
    let source = case.client.sources.iter().find(|source| source.id == id).expect("it is one of ours");
    assert_ne!(source.reach, 0);
    Some(source.address.ip().to_string())
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let mut case = Case::new("server 10.0.0.1 minpoll 6\nserver 10.0.0.2 minpoll 10\n");
    case.reply_all(0);
    let followed = selected(&case).unwrap();
    let place = usize::from(followed == "10.0.0.1");
    let other = case.client.sources[place].address.ip().to_string();
    // Who is followed is silent, the other answers: it is followed at once when eight questions were in vain.
    let begin = case.now.boot;
    while selected(&case) == Some(followed.clone()) {
        case.wait();
        if let Some(place) = case.asked.iter().position(|(_, address, _)| address.ip().to_string() == other) {
            case.reply(place, 0);
        }
        assert!(case.now.boot - begin < 3600 * SECOND, "{:#?}", case.client.sources);
    }
    assert_eq!(selected(&case), Some(other.clone()));
    // Then nobody answers.
    let begin = case.now.boot;
    while selected(&case).is_some() {
        case.wait();
        assert!(case.now.boot - begin < 3600 * SECOND, "{:#?}", case.client.sources);
    }
    assert_alone(&case, &other);
    // One answer is enough.
    case.client.burst(case.now, 4);
    case.perform();
    case.reply(0, 0);
    assert!(selected(&case).is_some());
}

#[test]
fn silent_servers_of_a_pool_are_replaced_and_not_followed() {
    let mut case = Case::new("pool pool.example iburst maxsources 1\n");
    let entry = case.resolve.remove(0);
    let addresses: Vec<IpAddr> = (1..=2).map(|number| IpAddr::from([192, 0, 2, number])).collect();
    case.client.resolved(entry, case.now, Ok(addresses));
    case.perform();
    case.reply(0, 0);
    assert_eq!(selected(&case).as_deref(), Some("192.0.2.1"));
    while case.client.sources[0].address.ip() == IpAddr::from([192, 0, 2, 1]) {
        case.wait();
    }
    assert_alone(&case, "192.0.2.1");
    case.reply(0, 0);
    assert_eq!(selected(&case).as_deref(), Some("192.0.2.2"));
}

#[test]
fn nobody_is_followed_offline() {
    let mut case = Case::new("server 10.0.0.1\n");
    case.reply(0, 0);
    case.client.go_offline(case.now);
    case.perform();
    assert_alone(&case, "10.0.0.1");
    case.pass(600 * SECOND);
    case.client.timer(case.now);
    assert_alone(&case, "10.0.0.1");
    case.client.go_online(case.now);
    case.perform();
    assert_eq!(selected(&case), None, "before it has answered");
    case.reply(0, 0);
    assert!(selected(&case).is_some());
}

#[test]
fn a_server_that_no_list_names_is_not_followed() {
    let mut case = Case::new("server 10.0.0.1\nserver 10.0.0.2\n");
    case.reply_all(0);
    let followed = selected(&case).unwrap();
    let other = if followed == "10.0.0.1" { "10.0.0.2" } else { "10.0.0.1" };
    case.list(&format!("server {other}\n"));
    assert_eq!(selected(&case).as_deref(), Some(other));
    case.list("server 10.0.0.3\n");
    assert_alone(&case, other);
    case.list("");
    assert_alone(&case, other);
}
