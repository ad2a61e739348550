//! The way from the thread that reads the engine's events to the worker. It does what a bounded channel of std
//! does, in a tenth of its code.

use crate::worker::Message;
use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// Messages that wait at most; more of them wait in the engine.
const LIMIT: usize = 64;

/// A queue with one reader and one writer.
#[derive(Debug, Clone, Default)]
pub struct Queue(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    messages: Mutex<VecDeque<Message>>,
    /// A message came, or one was taken.
    changed: Condvar,
}

impl Queue {
    /// Adds a message; waits while the queue is full.
    pub fn push(&self, message: Message) {
        let mut messages = self.lock();
        while messages.len() >= LIMIT {
            messages = self.0.changed.wait(messages).unwrap_or_else(PoisonError::into_inner);
        }
        messages.push_back(message);
        self.0.changed.notify_all();
    }

    /// Takes all messages; waits for the first until `timeout` has passed (`None`: for ever).
    pub fn take(&self, timeout: Option<Duration>) -> VecDeque<Message> {
        let mut messages = self.lock();
        while messages.is_empty() {
            let Some(timeout) = timeout else {
                messages = self.0.changed.wait(messages).unwrap_or_else(PoisonError::into_inner);
                continue;
            };
            let waited = self.0.changed.wait_timeout(messages, timeout);
            let (guard, result) = waited.unwrap_or_else(PoisonError::into_inner);
            messages = guard;
            // Whoever wakes early for nothing comes again: the caller knows its own deadline.
            if result.timed_out() {
                break;
            }
        }
        let taken = std::mem::take(&mut *messages);
        self.0.changed.notify_all();
        taken
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<Message>> {
        self.0.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_arrive_in_order_and_a_full_queue_waits() {
        let queue = Queue::default();
        let writer = queue.clone();
        let thread = std::thread::spawn(move || {
            for number in 0..1000 {
                writer.push(if number % 2 == 0 { Message::EngineUp } else { Message::EngineDown });
            }
        });
        let mut count = 0;
        while count < 1000 {
            let taken = queue.take(None);
            assert!(taken.len() <= LIMIT);
            for message in taken {
                assert_eq!(matches!(message, Message::EngineUp), count % 2 == 0);
                count += 1;
            }
        }
        thread.join().unwrap();
        assert!(queue.take(Some(Duration::from_millis(10))).is_empty());
    }
}
