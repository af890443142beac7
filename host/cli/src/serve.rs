//! `host serve`: a server for programs and archives of a hospital.

use super::console::Console;
use super::options;
use super::outcome::{CommandError, EXIT_CODES, Outcome};
use super::session_options::SessionArgs;
use super::tasks::tell_refused;
use anymc3d_host::plugin::find;
use anymc3d_host::run::Selection;
use anymc3d_server::access::{Scope, add_token};
use anymc3d_server::jobs::Retention;
use anymc3d_server::{Outputs, RequestLimits, ServeError, Server, ServerOptions, StudyOptions, TlsFiles};
use clap::{Args, Subcommand};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  host serve --plugin lung_nodule                                 on 127.0.0.1:8080, for programs of this machine
  curl --data-binary @scan.nii.gz localhost:8080/scans            a job; then localhost:8080/jobs/ID
  curl localhost:8080/v2/models/lung_nodule                       the model as Triton's and KServe's clients see it
  host serve token add pacs --scope read,infer --tokens tokens.toml      prints a token, and keeps its digest
  host serve --plugin lung_nodule --dicomweb http://pacs:8042/dicom-web --rules rules.toml     answers studies as they come
  host serve --plugin lung_nodule --listen 0.0.0.0:8443 --host ai.hospital.example \\
    --tls-cert cert.pem --tls-key key.pem --tokens tokens.toml --data /var/lib/anymc3d";

/// Serve plugins over HTTP: scans become jobs with results, and models answer the Open Inference Protocol
#[derive(Debug, Args)]
#[command(before_help = EXAMPLES, after_help = EXIT_CODES, args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct Serve {
    #[command(subcommand)]
    command: Option<ServeCommand>,
    #[command(flatten)]
    server: ServerArgs,
    #[command(flatten)]
    session: SessionArgs,
}

#[derive(Debug, Subcommand)]
enum ServeCommand {
    /// Tokens by which clients are known
    #[command(subcommand)]
    Token(TokenCommand),
}

#[derive(Debug, Subcommand)]
enum TokenCommand {
    Add(AddToken),
}

/// Make a token: it is printed once, and its digest is added to the file
#[derive(Debug, Args)]
struct AddToken {
    /// Name of whoever gets it, as the audit log will tell it; no person's name
    name: String,
    /// What it allows: read (all jobs and results), infer (submit scans, ask models, see its own jobs), admin (delete any job,
    /// open plugins again)
    #[arg(long, value_name = "SCOPE,…", value_delimiter = ',', required = true)]
    scope: Vec<Scope>,
    /// File of tokens; made where there is none
    #[arg(long, value_name = "FILE")]
    tokens: PathBuf,
    /// Days until it is refused [default: never]
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(u32).range(1..=36_500))]
    days: Option<u32>,
}

#[derive(Debug, Args)]
struct ServerArgs {
    /// Address to listen at; another one than loopback asks for --tls-cert, --tls-key and --tokens
    #[arg(long, value_name = "IP:PORT", default_value = "127.0.0.1:8080")]
    listen: SocketAddr,
    /// Folder of the server: jobs with scans and results, database, audit log [default: $ANYMC3D_HOME/server]
    #[arg(long, value_name = "DIR")]
    data: Option<PathBuf>,
    /// Name by which clients call the server, beside localhost and addresses; repeat it for more names
    #[arg(long, value_name = "NAME")]
    host: Vec<String>,
    /// Certificate in PEM, with those between it and its root; read again when it changes
    #[arg(long, value_name = "FILE", requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// Private key of the certificate, in PEM
    #[arg(long, value_name = "FILE", requires = "tls_cert")]
    tls_key: Option<PathBuf>,
    /// File of tokens, made by `host serve token add`; read again when it changes. With it every request needs one
    #[arg(long, value_name = "FILE")]
    tokens: Option<PathBuf>,
    /// Listen at an address that other machines reach without TLS or without tokens: behind a proxy that has both
    #[arg(long)]
    insecure: bool,
    /// Most jobs and requests that wait; the next is answered 429
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    queue: u32,
    /// Milliseconds for which a job or a request waits for others of its scan, which are then computed with it. Those that wait
    /// anyway are computed together without it
    #[arg(long, value_name = "MS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=60_000))]
    batch_window: u32,
    /// Most connections at a time
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    connections: u32,
    /// Largest scan, for example 2G
    #[arg(long, value_name = "SIZE", default_value = "4G", value_parser = options::size)]
    max_upload: usize,
    /// Largest inference request, before and after decompression
    #[arg(long, value_name = "SIZE", default_value = "1G", value_parser = options::size)]
    max_request: usize,
    /// Seconds without a byte after which a body or an answer is given up
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(1..=3600))]
    idle: u32,
    /// Days for which ended jobs are kept; 0 keeps them for ever
    #[arg(long, value_name = "DAYS", default_value_t = 30)]
    keep_days: u32,
    /// Most that ended jobs may take on the disk, the oldest go first [default: any]
    #[arg(long, value_name = "SIZE", value_parser = options::size)]
    keep_bytes: Option<usize>,
    /// How many cases in a row may end a plugin's process before the plugin is left out
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    quarantine_after: u32,
    /// DICOMweb service of an archive whose studies are answered as they come, for example http://pacs:8042/dicom-web
    #[arg(long, value_name = "URL", requires = "rules")]
    dicomweb: Option<String>,
    /// Which series are answered by which plugins, how the archive is asked, who may send by C-STORE: see docs/dicomweb.md
    #[arg(long, value_name = "FILE", conflicts_with = "no_dicom")]
    rules: Option<PathBuf>,
    /// Seconds that what runs may go on for after SIGTERM; a job that takes longer runs again at the next start
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(0..=3600))]
    grace: u32,
    /// Write no heatmap.nii.gz and preview.png
    #[arg(long)]
    no_heatmap: bool,
    /// Write no report.html
    #[arg(long)]
    no_report: bool,
    /// Write no DICOM objects
    #[arg(long)]
    no_dicom: bool,
}

impl Serve {
    pub fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        match self.command {
            Some(ServeCommand::Token(TokenCommand::Add(add))) => add.run(console),
            None => self.server.run(self.session, console),
        }
    }
}

impl AddToken {
    fn run(self, console: &Console) -> Result<Outcome, CommandError> {
        let hours = self.days.map(|days| i64::from(days) * 24);
        let expires = hours.map(|hours| jiff::Timestamp::now() + jiff::SignedDuration::from_hours(hours));
        let scopes = self.scope.into_iter().collect();
        let token = add_token(&self.tokens, &self.name, scopes, expires).map_err(CommandError::failed)?;
        console.result(token);
        console.note(format!(
            "{}: has the digest alone; nobody can show this token again",
            self.tokens.display()
        ));
        Ok(Outcome::Done)
    }
}

impl ServerArgs {
    fn run(self, mut session: SessionArgs, console: &Console) -> Result<Outcome, CommandError> {
        // A crash costs a job and not the server.
        session.isolate = true;
        session.faults = self.quarantine_after;
        session.prepare()?;
        let options = session.options(console)?;
        let selection = Selection::new(&session.plugin, &options.choice)?;
        let data = self.data.clone().or_else(|| find::home().map(|home| home.join("server")));
        let data = data.ok_or_else(|| CommandError::usage("no home folder is known; give --data DIR"))?;
        let server = Server::open(selection, options, self.options(data)).map_err(|e| refused(e, console))?;
        let address = server.address().map_err(CommandError::failed)?;
        let scheme = if self.tls_cert.is_some() { "https" } else { "http" };
        let ready = |_| console.note(format!("serving at {scheme}://{address}; SIGTERM or Ctrl-C ends it"));
        server.run(ready).map_err(CommandError::failed)?;
        Ok(Outcome::Done)
    }

    fn options(&self, data: PathBuf) -> ServerOptions {
        let seconds = |n: u32| Duration::from_secs(u64::from(n));
        let limits = RequestLimits {
            connections: self.connections as usize,
            idle: seconds(self.idle),
            scan_bytes: self.max_upload as u64,
            infer_bytes: self.max_request as u64,
            // Two of the largest, or many small ones.
            infer_memory: (self.max_request as u64).saturating_mul(2).max(1 << 30),
            ..RequestLimits::default()
        };
        let files = self.tls_cert.clone().zip(self.tls_key.clone());
        ServerOptions {
            listen: self.listen,
            hosts: self.host.clone(),
            data,
            tls: files.map(|(certificate, key)| TlsFiles { certificate, key }),
            tokens: self.tokens.clone(),
            insecure: self.insecure,
            limits,
            queue: self.queue as usize,
            window: Duration::from_millis(u64::from(self.batch_window)),
            retention: Retention {
                age: (self.keep_days > 0).then(|| seconds(self.keep_days) * 86_400),
                bytes: self.keep_bytes.map(|bytes| bytes as u64),
            },
            outputs: Outputs { heatmap: !self.no_heatmap, report: !self.no_report, dicom: !self.no_dicom },
            grace: seconds(self.grace),
            studies: self.rules.clone().map(|rules| StudyOptions { archive: self.dicomweb.clone(), rules }),
        }
    }
}

/// Why nothing is served, with the option that helps.
fn refused(error: ServeError, console: &Console) -> CommandError {
    match error {
        ServeError::Unprotected { .. } => CommandError::usage(format!(
            "--listen {error}; give --tls-cert, --tls-key and --tokens, or --insecure behind a proxy that has both"
        )),
        ServeError::Refused(plugins) => {
            tell_refused(&plugins, console);
            CommandError::refused(ServeError::Refused(plugins))
        }
        ServeError::Session(e) => e.into(),
        other => CommandError::failed(other),
    }
}
