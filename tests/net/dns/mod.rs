//! The forwarder `dns` between the clients and the servers of others.

mod answers;
mod message;
mod upstream;
