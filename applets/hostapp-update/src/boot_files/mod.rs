//! Boot file deployment (spec os §15.6).
