//! Detects another client with our client id: a broker allows only one, and closes the older
//! connection for the newer. The two would disconnect each other once a second, for ever and
//! without a message.

use std::time::Duration;

use super::MqttError;

/// A connection that lasted this long did not end because of a fight. Longer than the longest wait
/// between two attempts, so that a fight between two clients at that wait is still recognised.
const CALM: Duration = Duration::from_secs(300);
/// This many connections in a row that the broker soon closed look like a fight, where it does not
/// say so: MQTT 3.1.1 has no reason code for it, and mosquitto 2.0 does not use that of MQTT 5.
const CLOSED: u32 = 4;

/// Whether another client keeps taking our place, inferred from how connections end.
#[derive(Debug, Default)]
pub(super) struct Rival {
    taken: u32,
    closed: u32,
}

impl Rival {
    /// Notes how a connection ended and returns the error to report. `lived`: how long the broker
    /// had accepted us, if it did. `explained`: whether something other than another client
    /// explains the end.
    pub(crate) fn connection_ended(
        &mut self,
        error: MqttError,
        lived: Option<Duration>,
        explained: bool,
        client_id: &str,
    ) -> MqttError {
        if lived.is_some_and(|l| l > CALM) {
            *self = Self::default();
        }
        let closed = matches!(error, MqttError::Closed { .. }) && lived.is_some() && !explained;
        self.closed = if closed { self.closed + 1 } else { 0 };
        match error {
            MqttError::TakenOver { .. } => {
                self.taken += 1;
                error
            }
            MqttError::Closed { broker } if self.closed >= CLOSED => {
                self.taken = self.taken.max(self.closed);
                MqttError::TakenOver { broker, client_id: client_id.to_owned(), sure: false }
            }
            // The broker may be away in between, which does not end a fight.
            other => other,
        }
    }

    /// How often our place was taken, or seems to have been, since the last calm connection.
    pub fn times(&self) -> u32 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed() -> MqttError {
        MqttError::Closed { broker: "b:1".into() }
    }

    #[test]
    fn a_fight_is_counted_until_there_is_peace() {
        let taken = MqttError::TakenOver { broker: "b:1".into(), client_id: "spotd-x".into(), sure: true };
        let away = MqttError::Unreachable { broker: "b:1".into(), reason: "refused".into() };
        let mut rival = Rival::default();
        for times in 1..5 {
            assert_eq!(
                rival.connection_ended(taken.clone(), Some(Duration::from_secs(60)), true, "spotd-x"),
                taken
            );
            // That the broker was away in between does not end it.
            assert_eq!(rival.connection_ended(away.clone(), None, true, "spotd-x"), away);
            assert_eq!(rival.times(), times);
        }
        rival.connection_ended(closed(), Some(CALM * 2), true, "spotd-x");
        assert_eq!(rival.times(), 0);
    }

    #[test]
    fn connections_that_are_closed_soon_again_and_again_look_like_one_where_the_broker_has_no_words_for_it() {
        let mut rival = Rival::default();
        for _ in 1..CLOSED {
            assert_eq!(
                rival.connection_ended(closed(), Some(Duration::from_secs(1)), false, "spotd-x"),
                closed()
            );
            assert_eq!(rival.times(), 0);
        }
        let told = rival.connection_ended(closed(), Some(Duration::from_secs(1)), false, "spotd-x");
        assert!(matches!(&told, MqttError::TakenOver { sure: false, .. }), "{told}");
        assert!(
            told.to_string().contains("\"spotd-x\"") && told.to_string().contains("[node] name"),
            "{told}"
        );
        assert_eq!(rival.times(), CLOSED);
        // A broker that is restarted now and then is not a rival, nor is one that would have said
        // so.
        let mut rival = Rival::default();
        for lived in [Some(Duration::from_secs(1)), Some(CALM * 2), None].into_iter().cycle().take(30) {
            assert_eq!(rival.connection_ended(closed(), lived, false, "spotd-x"), closed());
            assert_eq!(Rival::default().connection_ended(closed(), lived, true, "spotd-x"), closed());
        }
    }
}
