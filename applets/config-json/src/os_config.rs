//! `os-config`: what the cloud decides about this device (spec os §4.6).
//!
//! Power cut at each step of `join`: before `config.json` is written the device is in the old fleet with the old files;
//! after it, in the new fleet with old files or some new ones, and the `update` of the next boot gets the others. `leave`
//! deletes the files first: before `config.json` is written the device is in its fleet, and the next `update` gets the files
//! again; after it the device is nobody's.

mod cloud;
mod fleet;
mod services;
mod units;

use minke_applet::{Args, EXIT_USAGE, errln, log, outln};
use minke_config::{Config, DeviceType, Paths, Store, generate_key};
use minke_sys::file;
use minke_wire::json::Value;
use services::{Contents, Table, below};
use std::fmt::Display;
use std::path::Path;
use units::Units;

/// The table of services below the root folder.
const TABLE: &str = "etc/os-config.json";

/// Everything that goes wrong is one line for a person.
type Result<T> = std::result::Result<T, String>;

fn text(error: impl Display) -> String {
    error.to_string()
}

struct Device<'a> {
    store: Store,
    root: &'a Path,
}

/// Runs `os-config`.
pub(crate) fn run(args: &Args) -> u8 {
    let root = Path::new(args.value("root").unwrap_or("/"));
    let mut paths = Paths::below(root);
    if let Some(path) = args.value("config-path").map(Into::into).or_else(|| std::env::var_os("CONFIG_PATH"))
    {
        paths.config = path.into();
    }
    let device = Device { store: Store::new(paths), root };
    let done = match (args.operand(0), args.operand(1), args.operands().len()) {
        (Some("generate-api-key"), None, 1) => generate_api_key(&device.store),
        (Some("update"), None, 1) => device.update(),
        (Some("join"), Some(document), 2) => device.join(document),
        (Some("leave"), None, 1) => device.leave(),
        _ => {
            errln!(
                "os-config: expected generate-api-key, update, join JSON or leave; see 'os-config --help'"
            );
            return EXIT_USAGE;
        }
    };
    minke_applet::report(done.map(|()| 0))
}

/// Makes the key by which a managed device proves who it is. It is durable before this returns, so before anybody sends
/// it anywhere.
pub(crate) fn generate_api_key(store: &Store) -> Result<()> {
    let mut config = store.load().config;
    fleet::check(&config)?;
    if !config.managed() {
        log::info(format_args!("Unconfigured device"));
        return Ok(());
    }
    let fresh = generate_key().map_err(text)?;
    // The file is written only where something is missing. Another writer may have set it since: it is asked again.
    if fleet::ensure_key(&mut config, &fresh) {
        store
            .update(&mut |config| {
                fleet::ensure_key(config, &fresh);
            })
            .map_err(text)?;
    }
    Ok(())
}

impl Device<'_> {
    fn table(&self) -> Result<Table> {
        let path = self.root.join(TABLE);
        let content = file::read_bounded(&path, services::LIMIT).map_err(text)?;
        Table::parse(&content).map_err(|problem| format!("{} {problem}", path.display()))
    }

    fn update(&self) -> Result<()> {
        generate_api_key(&self.store)?;
        let table = self.table()?;
        loop {
            let config = self.store.load().config;
            if !config.managed() {
                return Ok(());
            }
            let answer = cloud::fetch(&config, self.root, true)?;
            let contents = self.contents(&answer, &table)?;
            let _lock = self.lock()?;
            let now = self.store.load().config;
            if ["apiEndpoint", "deviceApiKey"].iter().any(|key| now.string(key) != config.string(key)) {
                // Somebody has moved the device to another fleet meanwhile: the answer is the old one's.
                continue;
            }
            if contents.are_there(&table, self.root) {
                outln!("No configuration changes");
                return Ok(());
            }
            return self.without_supervisor(&mut |units| self.configure(units, &table, &contents));
        }
    }

    /// One process at a time changes the services: a join starts an update by its change of `config.json`.
    fn lock(&self) -> Result<std::fs::File> {
        let file = file::open_to_read(self.root.join(TABLE)).map_err(text)?;
        file.lock().map_err(text)?;
        Ok(file)
    }

    fn contents(&self, answer: &[u8], table: &Table) -> Result<Contents> {
        Contents::parse(answer, table).map_err(|problem| format!("the cloud's answer {problem}"))
    }

    fn join(&self, document: &str) -> Result<()> {
        let fleet = match minke_wire::json::parse_str(document) {
            Ok(Value::Object(members)) => members,
            Ok(_) => return Err("the fleet's configuration is no JSON object".to_owned()),
            Err(error) => return Err(format!("the fleet's configuration is not JSON: {error}")),
        };
        let table = self.table()?;
        let board = self.store.paths().config.parent().and_then(DeviceType::read);
        let board = board.as_ref().map(|board| board.slug.as_str());
        let fresh = generate_key().map_err(text)?;
        let mut wanted = self.changeable()?;
        let join = |config: &mut Config| fleet::join(config, &fleet, &table.keys, board, &fresh);
        join(&mut wanted)?;
        let answer = cloud::fetch(&wanted, self.root, false)?;
        let contents = self.contents(&answer, &table)?;
        let _lock = self.lock()?;
        self.without_supervisor(&mut |units| {
            self.write_config(&mut |config| join(config))?;
            self.configure(units, &table, &contents)
        })
    }

    fn leave(&self) -> Result<()> {
        let table = self.table()?;
        let _lock = self.lock()?;
        if !self.changeable()?.managed() {
            log::info(format_args!("Unconfigured device"));
            return Ok(());
        }
        self.without_supervisor(&mut |units| {
            outln!("Deleting config.json keys");
            for service in &table.services {
                for file in &service.files {
                    file::remove_durable(&below(self.root, &file.path)).map_err(text)?;
                    outln!("{} deleted", file.path.display());
                }
            }
            self.write_config(&mut |config| {
                fleet::leave(config, &table.keys);
                Ok(())
            })?;
            for unit in table.services.iter().flat_map(|service| &service.units) {
                units.reload(unit)?;
            }
            Ok(())
        })
    }

    /// The configuration, where its file is in a state that can be changed.
    fn changeable(&self) -> Result<Config> {
        let loaded = self.store.load();
        match (loaded.message(), &loaded.problem) {
            (Some(message), Some(problem)) if !problem.nothing_to_lose() => {
                Err(format!("{message}; correct it before changing fleets"))
            }
            _ => fleet::check(&loaded.config).map(|()| loaded.config),
        }
    }

    fn write_config(&self, change: &mut dyn FnMut(&mut Config) -> Result<()>) -> Result<()> {
        outln!("Writing {}", self.store.paths().config.display());
        let mut done = Ok(());
        self.store.update(&mut |config| done = change(config)).map_err(text)?;
        done
    }

    /// Does something while the supervisor is down; it comes back whatever the outcome.
    fn without_supervisor(&self, work: &mut dyn FnMut(&Units) -> Result<()>) -> Result<()> {
        let units = Units::here();
        let done = units.stop(units::SUPERVISOR).and_then(|()| work(&units));
        let started = units.start(units::SUPERVISOR);
        done.and(started)
    }

    fn configure(&self, units: &Units, table: &Table, contents: &Contents) -> Result<()> {
        for (service, texts) in contents.of(table) {
            let mut done = Ok(());
            for unit in &service.units {
                done = done.and_then(|()| units.stop(unit));
            }
            for (file, text) in service.files.iter().zip(texts) {
                done = done.and_then(|()| file.write(self.root, text).map_err(self::text));
                if done.is_ok() {
                    outln!("{} updated", file.path.display());
                }
            }
            // What was stopped is started again, also when a file could not be written.
            for unit in &service.units {
                let started = units.start(unit);
                done = done.and(started);
            }
            done?;
        }
        Ok(())
    }
}
