//! Rise and fall thresholds for active checks.
//!
//! `status` feeds one verdict at a time and acts on the transition that it gets back. The machine
//! holds no clock and no socket, so it is tested by plain calls. Invariant: the state flips exactly
//! when as many equal verdicts in a row as its threshold speak against it; one that differs starts
//! the count anew.

/// Whether an endpoint is to be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// It takes requests.
    Up,
    /// It takes none.
    Down,
}

/// What one check says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// The endpoint answered as it should.
    Pass,
    /// It did not.
    Fail,
}

/// The machine; starts as up.
#[derive(Debug, Clone)]
pub struct Thresholds {
    rise: u32,
    fall: u32,
    state: State,
    successes: u32,
    failures: u32,
}

impl Thresholds {
    /// `rise` successes in a row bring an endpoint back, `fall` failures in a row take it out. Zero
    /// counts as one.
    pub fn new(rise: u32, fall: u32) -> Self {
        Self {
            rise: rise.max(1),
            fall: fall.max(1),
            state: State::Up,
            successes: 0,
            failures: 0,
        }
    }

    /// Counts one verdict, and returns the new state if it changed.
    pub fn feed(&mut self, verdict: Verdict) -> Option<State> {
        match verdict {
            Verdict::Pass => {
                self.failures = 0;
                self.successes = self.successes.saturating_add(1);
            }
            Verdict::Fail => {
                self.successes = 0;
                self.failures = self.failures.saturating_add(1);
            }
        }
        let next = match self.state {
            State::Up if self.failures >= self.fall => State::Down,
            State::Down if self.successes >= self.rise => State::Up,
            State::Up | State::Down => return None,
        };
        self.state = next;
        Some(next)
    }

    /// The state as of the last verdict.
    pub fn state(&self) -> State {
        self.state
    }

    /// Successes in a row up to now; goes on counting past the threshold.
    pub fn successes(&self) -> u32 {
        self.successes
    }

    /// Failures in a row up to now; goes on counting past the threshold.
    pub fn failures(&self) -> u32 {
        self.failures
    }

    #[cfg(test)]
    fn check_invariants(&self) {
        assert!(self.successes == 0 || self.failures == 0, "{self:?}");
        match self.state {
            State::Up => assert!(self.failures < self.fall, "{self:?}"),
            State::Down => assert!(self.successes < self.rise, "{self:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_falls_after_three_failures_in_a_row_and_rises_after_two_successes() {
        let mut machine = Thresholds::new(2, 3);
        let told = "FFPFFFFPFPPP".chars().map(|letter| {
            machine.feed(if letter == 'P' {
                Verdict::Pass
            } else {
                Verdict::Fail
            })
        });
        let changes: Vec<_> = told
            .enumerate()
            .filter_map(|(at, to)| Some((at, to?)))
            .collect();
        assert_eq!(changes, [(5, State::Down), (10, State::Up)]);
        assert_eq!((machine.successes(), machine.failures()), (3, 0));
    }

    #[test]
    fn a_threshold_of_zero_counts_as_one() {
        let mut machine = Thresholds::new(0, 0);
        assert_eq!(machine.feed(Verdict::Pass), None);
        assert_eq!(machine.feed(Verdict::Fail), Some(State::Down));
        assert_eq!(machine.feed(Verdict::Pass), Some(State::Up));
    }

    /// The oracle keeps the whole history and looks at its end.
    #[test]
    fn a_random_walk_flips_exactly_on_runs_of_the_threshold() {
        for seed in 0..200 {
            let mut random = fastrand::Rng::with_seed(seed);
            let (rise, fall) = (random.u32(1..5), random.u32(1..5));
            let mut machine = Thresholds::new(rise, fall);
            let mut history = Vec::new();
            let mut state = State::Up;
            for step in 0..500 {
                let verdict = if random.bool() {
                    Verdict::Pass
                } else {
                    Verdict::Fail
                };
                history.push(verdict);
                let run = history
                    .iter()
                    .rev()
                    .take_while(|past| **past == verdict)
                    .count();
                let expected = match (state, verdict) {
                    (State::Up, Verdict::Fail) if run >= fall as usize => Some(State::Down),
                    (State::Down, Verdict::Pass) if run >= rise as usize => Some(State::Up),
                    _ => None,
                };
                state = expected.unwrap_or(state);
                assert_eq!(machine.feed(verdict), expected, "seed {seed}, step {step}");
                assert_eq!(machine.state(), state, "seed {seed}, step {step}");
                machine.check_invariants();
            }
        }
    }
}
