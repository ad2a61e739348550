use super::*;

fn four(jitter: f64) -> Vec<Server> {
    (1..=4).map(|number| Server::new(number, 0.02 + f64::from(number) * 0.002, jitter)).collect()
}

#[test]
#[ignore = "prints figures"]
fn bench() {
    for uniform in [true, false] {
        for poll in [4, 6] {
            for (fast, wander) in [(3e-5, 1e-18), (3e-5, 1e-17)] {
                let (mut sum, mut late, mut good, mut worst): (f64, f64, f64, f64) = (0.0, 0.0, 0.0, 0.0);
                for seed in 0..20 {
                    let mut servers = four(0.005);
                    for server in &mut servers {
                        (server.there, server.back, server.uniform) = (0.015, 0.015, uniform);
                    }
                    let list = format!("iburst minpoll {poll} maxpoll {poll}");
                    let mut simulation =
                        Simulation::new(World::new(seed, fast, wander, 0.3), servers, &list, None);
                    simulation.run(900.0);
                    let one = simulation.outcome();
                    sum += one.rms * one.rms;
                    worst = worst.max(one.worst);
                    good += one.good_after;
                    simulation.measure();
                    simulation.run(3600.0 * 6.0);
                    let one = simulation.outcome();
                    late += one.rms * one.rms;
                }
                println!(
                    "uniform {uniform} poll {poll} wander {wander:e}: 15 min rms {:.3} ms worst {:.3}, good after {:.1} s, 6 h rms {:.3} ms",
                    (sum / 20.0).sqrt() * 1e3,
                    worst * 1e3,
                    good / 20.0,
                    (late / 20.0).sqrt() * 1e3
                );
            }
        }
    }
}

#[test]
#[ignore = "prints figures"]
fn explore() {
    for (name, poll) in [
        ("poll 4", "iburst minpoll 4 maxpoll 4"),
        ("poll 6", "iburst minpoll 6 maxpoll 6"),
        ("adaptive", "iburst minpoll 6 maxpoll 14"),
        ("14", "iburst minpoll 14 maxpoll 14"),
    ] {
        for jitter in [1e-4, 1e-3, 5e-3, 1e-2, 1e-1] {
            for (fast, wander) in [(1e-4, 1e-18), (-3e-5, 1e-16)] {
                let begin = std::time::Instant::now();
                let mut simulation =
                    Simulation::new(World::new(7, fast, wander, 0.3), four(jitter), poll, None);
                simulation.run(60.0);
                let first = simulation.outcome();
                simulation.measure();
                simulation.run(840.0);
                let early = simulation.outcome();
                simulation.run(86_400.0);
                simulation.measure();
                simulation.run(86_400.0 * 13.0);
                let late = simulation.outcome();
                let polls: Vec<i8> = simulation.client.sources.iter().map(|source| source.poll).collect();
                println!(
                    "{name} jitter {:.1} ms wander {wander:e}: good after {:.1} s; 15 min rms {:.3} ms worst {:.3}; 2 weeks rms {:.3} ms worst {:.3} ms; wander {:.1e} {polls:?} asked {} {:?} jitter {:.3} steps {} {} ms",
                    jitter * 1e3,
                    first.good_after,
                    early.rms * 1e3,
                    early.worst * 1e3,
                    late.rms * 1e3,
                    late.worst * 1e3,
                    simulation.client.clock.wander(),
                    simulation.servers[0].asked,
                    simulation.log.len(),
                    simulation.client.sources[0].filter.deviation() * 1e3,
                    simulation.steps.len(),
                    begin.elapsed().as_millis()
                );
            }
        }
    }
}
