//! The thread that reads the engine's events, and that finds the engine again when it was away.

use crate::queue::Queue;
use crate::worker::Message;
use minke_applet::log;
use minke_engine_api::Engine;
use std::time::Duration;

/// The first pause before the next try to reach the engine, and the longest: at boot the engine comes up at
/// the same time, and the first container waits for this.
const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);

/// Watches the engine for ever.
pub fn watch(engine: &Engine, worker: &Queue) {
    let mut pause = FIRST_PAUSE;
    let mut told = false;
    loop {
        match engine.events() {
            Ok(mut events) => {
                (pause, told) = (FIRST_PAUSE, false);
                worker.push(Message::EngineUp);
                while let Ok(Some(event)) = events.next_event() {
                    worker.push(Message::Event(event));
                }
                log::warn(format_args!("the engine ended its stream of events; connecting again"));
                worker.push(Message::EngineDown);
            }
            // While it starts it is not there yet; said once that is enough.
            Err(error) if !told && pause >= LONGEST_PAUSE => {
                told = true;
                log::warn(format_args!("{error}; trying again every {} s", LONGEST_PAUSE.as_secs()));
            }
            Err(_) => {}
        }
        minke_sys::clock::sleep(pause);
        pause = pause.saturating_mul(2).min(LONGEST_PAUSE);
    }
}
