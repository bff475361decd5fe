//! Whether somebody can still say that a fault may stay: a line on stdin.

use std::{io, thread};

use tokio::sync::oneshot;

use crate::{clock, error::KernelError};

/// A question that is open until a time.
pub struct Confirmation {
    /// `CLOCK_BOOTTIME` in nanoseconds.
    until_ns: u64,
    /// None after the end of stdin, which is no answer.
    line: Option<oneshot::Receiver<()>>,
}

impl Confirmation {
    /// Starts to read stdin.
    pub fn ask(until_ns: u64) -> Result<Self, KernelError> {
        let (sender, line) = oneshot::channel();
        // The process does not wait for this thread, which may read for ever.
        thread::Builder::new()
            .name("confirm".into())
            .spawn(move || {
                if io::stdin()
                    .read_line(&mut String::new())
                    .is_ok_and(|bytes| bytes > 0)
                {
                    let _ = sender.send(());
                }
            })
            .map_err(KernelError::system("start a thread"))?;
        Ok(Self {
            until_ns,
            line: Some(line),
        })
    }

    /// Waits for a line, or for the end of the time; says which it was. A line that is
    /// there in time counts.
    pub async fn answer(&mut self) -> bool {
        let line = async {
            if let Some(line) = &mut self.line
                && line.await.is_ok()
            {
                return;
            }
            self.line = None;
            std::future::pending::<()>().await;
        };
        tokio::select! {
            biased;
            () = line => true,
            () = clock::reach(self.until_ns) => false,
        }
    }
}
