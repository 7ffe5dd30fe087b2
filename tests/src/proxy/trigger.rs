use std::{fmt, pin::Pin};

use tokio::sync::oneshot;

/// What a trigger waits for.
#[derive(Debug, Clone)]
pub enum On {
    /// A statement that contains this, or a request line that begins so: held before the server gets it.
    Asked(&'static str),
    /// The same, when the server has answered it: held before the client gets the answer.
    Answered(&'static str),
    /// An answer that contains these bytes: when the client has got it.
    Told(Vec<u8>),
}

/// What becomes of the connection after the action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Then {
    Forward,
    /// What was held is never delivered; both sides are reset.
    Cut,
}

/// What to do while the message is held.
pub struct Action(Box<dyn FnOnce() -> Doing + Send>);
type Doing = Pin<Box<dyn Future<Output = Then> + Send>>;

/// Makes a action of an async closure.
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
    /// On a task of its own: a action that was begun is ended, whatever becomes of the connection.
    pub async fn fire(self) -> Then {
        let doing = tokio::spawn((self.action.0)());
        let then = doing.await.unwrap_or(Then::Cut);
        let _ = self.fired.send(());
        then
    }
}

impl On {
    pub fn is_asked(&self, said: &str) -> bool {
        matches!(self, Self::Asked(words) if said.contains(words))
    }

    pub fn is_answered(&self, said: &str) -> bool {
        matches!(self, Self::Answered(words) if said.contains(words))
    }

    pub fn is_told(&self, answer: &[u8]) -> bool {
        matches!(self, Self::Told(bytes) if answer.windows(bytes.len()).any(|part| part == bytes))
    }
}
