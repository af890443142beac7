//! Connections: accepted up to a number, given up where the client is too slow, and let go of in peace at the end.

use crate::options::RequestLimits;
use crate::tls::Tls;
use axum::Router;
use futures_util::future::{Either, select};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use std::future::Future;
use std::io;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio::time::{Sleep, sleep, timeout};

/// Waits until the server is told to end.
pub(crate) async fn asked_to_end(mut ending: watch::Receiver<bool>) {
    // A sender that is gone tells nothing else.
    let _ = ending.wait_for(|ending| *ending).await;
}

/// Accepts connections until `ending` says true, then waits until those that are open have ended.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: RequestLimits,
    ending: watch::Receiver<bool>,
) {
    let most = u32::try_from(limits.connections).unwrap_or(u32::MAX);
    let open = Arc::new(Semaphore::new(most as usize));
    loop {
        let end = pin!(asked_to_end(ending.clone()));
        let stream = match select(end, pin!(listener.accept())).await {
            Either::Left(_) => break,
            Either::Right((Ok((stream, _)), _)) => stream,
            Either::Right((Err(e), _)) => {
                // Out of descriptors, mostly: others have to end first.
                tracing::warn!("a connection cannot be accepted ({e})");
                sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        // Above the number a connection is closed at once: waiting ones would hold descriptors.
        let Ok(permit) = open.clone().try_acquire_owned() else { continue };
        let (router, tls, ending) = (router.clone(), tls.clone(), ending.clone());
        tokio::spawn(async move {
            connection(stream, router, tls, &limits, ending).await;
            drop(permit);
        });
    }
    drop(listener);
    let _ = open.acquire_many(most).await;
}

async fn connection(
    stream: TcpStream,
    router: Router,
    tls: Option<Arc<Tls>>,
    limits: &RequestLimits,
    ending: watch::Receiver<bool>,
) {
    // Answers are small: none waits for a full packet.
    let _ = stream.set_nodelay(true);
    match tls {
        None => requests(Unhurried::new(stream, limits.idle), router, limits, ending).await,
        Some(tls) => {
            let shaken = timeout(limits.header_time, tls.acceptor().accept(stream)).await;
            if let Ok(Ok(stream)) = shaken {
                requests(Unhurried::new(stream, limits.idle), router, limits, ending).await;
            }
        }
    }
}

async fn requests<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
    stream: Unhurried<S>,
    router: Router,
    limits: &RequestLimits,
    ending: watch::Receiver<bool>,
) {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new()).header_read_timeout(limits.header_time).max_buf_size(limits.header_bytes);
    let mut connection = pin!(http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(router)));
    let end = pin!(asked_to_end(ending));
    // A connection that breaks is its client's business.
    if let Either::Right((_, _)) = select(connection.as_mut(), end).await {
        connection.as_mut().graceful_shutdown();
        let _ = connection.await;
    }
}

/// A stream that is given up where the other side takes nothing of what is written for too long.
struct Unhurried<S> {
    stream: S,
    patience: Duration,
    waits: Option<Pin<Box<Sleep>>>,
}

impl<S> Unhurried<S> {
    fn new(stream: S, patience: Duration) -> Self {
        Self { stream, patience, waits: None }
    }

    /// What came of a write; a clock runs while nothing does.
    fn timed<T>(&mut self, context: &mut Context<'_>, written: Poll<io::Result<T>>) -> Poll<io::Result<T>> {
        if written.is_ready() {
            self.waits = None;
            return written;
        }
        let patience = self.patience;
        let waits = self.waits.get_or_insert_with(|| Box::pin(sleep(patience)));
        ready!(waits.as_mut().poll(context));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Unhurried<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(context, buffer)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Unhurried<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        self.timed(context, written)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(context);
        self.timed(context, flushed)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let shut = Pin::new(&mut self.stream).poll_shutdown(context);
        self.timed(context, shut)
    }
}
