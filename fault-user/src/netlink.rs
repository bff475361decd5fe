//! rtnetlink, a request at a time, in the network namespace of the calling thread.

use std::{future::Future, thread};

use rtnetlink::Handle;

use crate::error::KernelError;

/// Opens a socket, runs `work` on it to its end, and closes it.
///
/// On a thread of its own, which is in the caller's namespace: the caller may be
/// inside a runtime already.
pub fn with<T, F>(work: impl FnOnce(Handle) -> F + Send) -> Result<T, KernelError>
where
    T: Send,
    F: Future<Output = Result<T, rtnetlink::Error>>,
{
    thread::scope(|scope| {
        scope
            .spawn(|| block_on(work))
            .join()
            .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

fn block_on<T, F>(work: impl FnOnce(Handle) -> F) -> Result<T, KernelError>
where
    F: Future<Output = Result<T, rtnetlink::Error>>,
{
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .build()
        .map_err(KernelError::system("create a runtime"))?;
    runtime.block_on(async {
        let (connection, handle, _) =
            rtnetlink::new_connection().map_err(KernelError::system("open rtnetlink"))?;
        let connection = tokio::spawn(connection);
        let result = work(handle).await;
        connection.abort();
        result.map_err(KernelError::Netlink)
    })
}

/// Whether the kernel answered with this errno.
pub fn is_errno(error: &rtnetlink::Error, errno: rustix::io::Errno) -> bool {
    matches!(error, rtnetlink::Error::NetlinkError(message)
        if message.raw_code() == -errno.raw_os_error())
}
