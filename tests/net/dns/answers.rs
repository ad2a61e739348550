//! Answers come through, whoever asks and whoever is asked.

use minke_tests::dns_lab::{Lab, ask, ask_tcp, dig, here, here6, kdig, server, server6};
use minke_tests::in_namespace;

use super::message::{A, Message, query};

const RECORDS: [&str; 4] = [
    "--address=/board.test/192.0.2.7",
    "--host-record=six.test,2001:db8::7",
    "--local=/test/",
    "--local-ttl=300",
];

#[test]
fn over_udp_and_tcp_over_both_families() {
    in_namespace(|| {
        let lab = Lab::new("families");
        for (number, upstream) in [(1, server(1)), (2, server6(2))] {
            let _dnsmasq = lab.dnsmasq(upstream, &RECORDS);
            let _forwarder = lab.by_hand(&[upstream]);
            for way in ["@10.77.0.53", "@fd77::53", "@10.77.0.53 +tcp", "@fd77::53 +tcp"] {
                for client in [dig, kdig] {
                    let answer = client(&format!("{way} board.test A"));
                    assert_eq!(
                        (answer.status(), answer.answers()),
                        ("NOERROR", vec!["192.0.2.7"]),
                        "{way} {answer:?}"
                    );
                    let answer = client(&format!("{way} six.test AAAA"));
                    assert_eq!(answer.answers(), ["2001:db8::7"], "{way} {answer:?}");
                    let answer = client(&format!("{way} six{number}.test AAAA"));
                    assert_eq!((answer.status(), answer.answers()), ("NXDOMAIN", vec![]), "{way} {answer:?}");
                }
            }
            let question = query(0x1234, "board.test", A);
            for answer in [ask(here(), &question), ask(here6(), &question), ask_tcp(here(), &question)] {
                let message = Message::read(&answer);
                assert_eq!((message.id, message.name.as_str()), (0x1234, "board.test."));
                assert_eq!(message.answers(A)[0].data, [192, 0, 2, 7]);
            }
        }
    });
}
