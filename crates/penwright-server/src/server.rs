//! The server: its beginning and its end.

use std::net::{SocketAddr, TcpListener};
use std::sync::Arc;

use penwright::run::Run;
use tokio::sync::watch;

use crate::app::App;
use crate::engine::Engine;
use crate::http::Connections;
use crate::models::Model;
use crate::options::Options;
use crate::{Error, Result, api};

/// A server that listens.
pub struct Server {
    listener: TcpListener,
    app: Arc<App>,
    stopper: Stopper,
}

/// Tells a server to stop; any number of times, from any thread.
#[derive(Clone, Debug)]
pub struct Stopper(Arc<watch::Sender<bool>>);

impl Stopper {
    /// The server takes no further requests, ends those there are, within [`Options::stop_timeout`], and leaves.
    pub fn stop(&self) {
        self.0.send_replace(true);
    }
}

/// How a server has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stopped {
    /// Texts and waiting prompts that were not complete when time was up.
    pub given_up: usize,
}

impl Server {
    /// Listens and starts the threads that compute. `runs`: each with the name that requests give
    /// ([`name_of`](crate::name_of)), opened by [`Run::open_to_write`].
    ///
    /// # Errors
    /// When an option cannot work, two runs have one name, memory is short or the address cannot be had.
    pub fn bind(runs: Vec<(String, Run)>, options: Options) -> Result<Self> {
        options.check()?;
        let models = Model::prepare(runs, options.streams)?;
        let addr = options.addr;
        let listener = TcpListener::bind(addr).map_err(|source| Error::Listen { addr, source })?;
        listener.set_nonblocking(true)?;
        let engine = Engine::start(models, options.queue, options.streams, options.threads)?;
        let (stop, stopped) = watch::channel(false);
        let app = Arc::new(App::new(engine, options, stopped));
        Ok(Server { listener, app, stopper: Stopper(Arc::new(stop)) })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// When the system does not say.
    pub fn local_addr(&self) -> Result<SocketAddr> {
        Ok(self.listener.local_addr()?)
    }

    /// What stops it.
    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// The names of the models and the number of texts that each writes side by side.
    pub fn models(&self) -> Vec<(String, usize)> {
        self.app.engine.models().iter().map(|model| (model.name.clone(), model.streams)).collect()
    }

    /// Answers until it is stopped. Connections are served by this thread.
    ///
    /// # Errors
    /// When the network cannot be used.
    pub fn run(self) -> Result<Stopped> {
        let Server { listener, app, stopper } = self;
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (limit, grace) = (app.options.client_timeout, app.options.stop_timeout);
        runtime.block_on(async {
            let listener = tokio::net::TcpListener::from_std(listener)?;
            let connections = Connections { listener, router: api::router(app.clone()), limit };
            let mut asked = stopper.0.subscribe();
            let training = async {
                // Connections wait for those who follow a run, and they for its end.
                let _ = asked.wait_for(|stop| *stop).await;
                if let Some(trainer) = &app.trainer {
                    trainer.close();
                }
            };
            tokio::join!(connections.serve(stopper.0.subscribe(), grace), training);
            Ok::<_, Error>(())
        })?;
        let given_up = app.engine.abort();
        if let Some(trainer) = &app.trainer {
            trainer.wait();
        }
        // Connections that are still there are cut off.
        runtime.shutdown_background();
        Ok(Stopped { given_up })
    }
}
