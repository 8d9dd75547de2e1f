//! Connections: accepted here rather than by `axum::serve`, for time limits on slow clients, a bound on their number,
//! and an end that waits for the requests there are.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::Request;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, mpsc, watch};
use tokio_io_timeout::TimeoutStream;

/// Connections at once; more wait to be accepted.
const MOST: usize = 1024;
/// How long to wait when the system has no more sockets.
const BREATH: Duration = Duration::from_millis(50);

/// The listener and what its connections answer with.
pub(crate) struct Connections {
    pub(crate) listener: TcpListener,
    pub(crate) router: Router,
    /// How long a client may take to send the head of a request, or to read a part of an answer.
    pub(crate) limit: Duration,
}

impl Connections {
    /// Accepts until `stop` says true; then until the requests that there are have been answered, or for `grace`.
    /// Whoever comes in that time is answered too, by a router that knows of the stop.
    pub(crate) async fn serve(self, mut stop: watch::Receiver<bool>, grace: Duration) {
        let places = Arc::new(Semaphore::new(MOST));
        // Each connection holds a sender: the channel ends with the last of them.
        let (alive, mut last) = mpsc::channel::<()>(1);
        let mut alive = Some(alive);
        let mut until = None;
        loop {
            let stopped = async {
                match until {
                    None => drop(stop.wait_for(|&stop| stop).await),
                    Some(until) => tokio::select! {
                        _ = last.recv() => {}
                        () = tokio::time::sleep_until(until) => {}
                    },
                }
            };
            tokio::select! {
                biased;
                () = stopped => match until {
                    None => {
                        until = Some(tokio::time::Instant::now() + grace);
                        alive = None;
                    }
                    Some(_) => return,
                },
                (stream, address) = self.accept() => {
                    let Ok(place) = places.clone().acquire_owned().await else { return };
                    let connection = self.connection(stream, address, stop.clone());
                    let alive = alive.clone();
                    tokio::spawn(async move {
                        connection.await;
                        drop((place, alive));
                    });
                }
            }
        }
    }

    async fn accept(&self) -> (TcpStream, SocketAddr) {
        loop {
            match self.listener.accept().await {
                Ok(accepted) => return accepted,
                // Out of sockets, or a client that has gone already.
                Err(_) => tokio::time::sleep(BREATH).await,
            }
        }
    }

    fn connection(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        mut stop: watch::Receiver<bool>,
    ) -> impl Future<Output = ()> + use<> {
        // A token is a small packet, and is not to wait for the next.
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.limit));
        // Whoever comes after the stop is told so, once.
        let stopped = *stop.borrow();
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.limit).keep_alive(!stopped);
        let router = TowerToHyperService::new(self.router.clone());
        let service = service_fn(move |mut request: hyper::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(address);
            let request: Request = request.map(axum::body::Body::new);
            hyper::service::Service::call(&router, request)
        });
        async move {
            let io = TokioIo::new(Box::pin(stream));
            let mut connection = std::pin::pin!(builder.serve_connection(io, service));
            // A client that breaks off is no event that anyone could do something about.
            tokio::select! {
                _ = connection.as_mut() => return,
                _ = stop.wait_for(|&stop| stop), if !stopped => connection.as_mut().graceful_shutdown(),
            }
            let _ = connection.await;
        }
    }
}
