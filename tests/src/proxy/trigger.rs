use std::{fmt, pin::Pin};

use tokio::sync::oneshot;

/// The message that a trigger waits for.
#[derive(Debug, Clone)]
pub enum On {
    /// A statement or request line that contains this text. The proxy holds it before the server gets it.
    Asked(&'static str),
    /// The answer to such a statement or request. The proxy holds it before the client gets it.
    Answered(&'static str),
    /// An answer that contains these bytes. The action runs after the client has got it.
    AnswerContains(Vec<u8>),
}

/// What the proxy does with the connection after the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Forward,
    /// Drops the message and resets both sides.
    Cut,
}

/// What to do while the proxy holds the message.
pub struct Action(Box<dyn FnOnce() -> ActionFuture + Send>);
type ActionFuture = Pin<Box<dyn Future<Output = Then> + Send>>;

/// Makes an action of an async closure.
pub fn action<F: Future<Output = Then> + Send + 'static>(
    act: impl FnOnce() -> F + Send + 'static,
) -> Action {
    Action(Box::new(move || Box::pin(act())))
}

impl fmt::Debug for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Action")
    }
}

#[derive(Debug)]
pub(super) struct Armed {
    pub on: On,
    pub action: Action,
    pub fired: oneshot::Sender<()>,
}

impl Armed {
    /// Runs the action on a task of its own, so that it ends even if the connection ends first.
    pub async fn fire(self) -> Then {
        let running = tokio::spawn((self.action.0)());
        let then = running.await.unwrap_or(Then::Cut);
        let _ = self.fired.send(());
        then
    }
}

impl On {
    pub fn is_asked(&self, command: &str) -> bool {
        matches!(self, Self::Asked(words) if command.contains(words))
    }

    pub fn is_answered(&self, command: &str) -> bool {
        matches!(self, Self::Answered(words) if command.contains(words))
    }

    pub fn matches_answer(&self, answer: &[u8]) -> bool {
        matches!(self, Self::AnswerContains(bytes) if answer.windows(bytes.len()).any(|part| part == bytes))
    }
}
