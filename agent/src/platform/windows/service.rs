//! The daemon as a Windows service.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use tokio::sync::Notify;
use windows_service::service::{
    Service, ServiceAccess, ServiceAction, ServiceActionType, ServiceControl, ServiceControlAccept,
    ServiceErrorControl, ServiceExitCode, ServiceFailureActions, ServiceFailureResetPeriod,
    ServiceInfo, ServiceStartType, ServiceState, ServiceStatus, ServiceType,
};
use windows_service::service_control_handler::{self, ServiceControlHandlerResult};
use windows_service::service_manager::{ServiceManager, ServiceManagerAccess};
use windows_service::{define_windows_service, service_dispatcher};
use windows_sys::Win32::Foundation::{
    ERROR_SERVICE_ALREADY_RUNNING, ERROR_SERVICE_DOES_NOT_EXIST, ERROR_SERVICE_NOT_ACTIVE,
};

/// Its name, for the system.
const NAME: &str = "ztna";
/// And for people.
const DISPLAY_NAME: &str = "ztna agent";
const DESCRIPTION: &str = "Keeps this machine in its zero-trust WireGuard mesh.";
/// The daemon starts again this long after it has failed.
const RESTART: Duration = Duration::from_secs(2);
/// Failures are forgotten after a day without one.
const FORGET_FAILURES: Duration = Duration::from_secs(24 * 3600);
/// How long the tunnel may take to go down,
const STOP_TIME: Duration = Duration::from_secs(30);
/// and how often it is looked at.
const STOP_POLL: Duration = Duration::from_millis(200);

/// Where the program is when it is installed: only administrators write there.
pub fn program() -> PathBuf {
    let folder = std::env::var_os("ProgramFiles").unwrap_or_else(|| r"C:\Program Files".into());
    Path::new(&folder).join("ztna").join("ztna.exe")
}

/// Told when the system wants the service to end.
pub(super) static STOP: Notify = Notify::const_new();

/// Registers the daemon, and starts it unless that is not wanted. Doing it again is harmless. Gives what was
/// done, a line each.
///
/// # Errors
/// The system refuses.
pub fn install(program: &Path, start: bool) -> anyhow::Result<Vec<String>> {
    let access = ServiceManagerAccess::CONNECT | ServiceManagerAccess::CREATE_SERVICE;
    let manager = ServiceManager::local_computer(None::<&OsStr>, access)
        .context("cannot reach the service manager; run it in a terminal of an administrator")?;
    let info = ServiceInfo {
        name: NAME.into(),
        display_name: DISPLAY_NAME.into(),
        service_type: ServiceType::OWN_PROCESS,
        start_type: ServiceStartType::AutoStart,
        error_control: ServiceErrorControl::Normal,
        executable_path: program.to_owned(),
        launch_arguments: arguments(),
        dependencies: vec![],
        account_name: None,
        account_password: None,
    };
    let access = ServiceAccess::CHANGE_CONFIG
        | ServiceAccess::START
        | ServiceAccess::STOP
        | ServiceAccess::QUERY_STATUS;
    let service = match manager.open_service(NAME, access) {
        Ok(service) => {
            service
                .change_config(&info)
                .context("cannot change the service")?;
            service
        }
        Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => manager
            .create_service(&info, access)
            .context("cannot register the service")?,
        Err(error) => return Err(error).context("cannot look at the service"),
    };
    service
        .set_description(DESCRIPTION)
        .context("cannot describe the service")?;
    let restart = ServiceAction {
        action_type: ServiceActionType::Restart,
        delay: RESTART,
    };
    service
        .update_failure_actions(ServiceFailureActions {
            reset_period: ServiceFailureResetPeriod::After(FORGET_FAILURES),
            reboot_msg: None,
            command: None,
            actions: Some(vec![restart; 3]),
        })
        .context("cannot have the service restarted after failures")?;
    let mut done = vec![format!("the service {NAME} starts with the machine")];
    if start {
        // The program may be another one than the one that runs.
        stop(&service)?;
        match service.start::<&OsStr>(&[]) {
            Err(error) if !is(&error, ERROR_SERVICE_ALREADY_RUNNING) => {
                return Err(error).context("the service does not start; see its log");
            }
            _ => done.push("it runs".to_owned()),
        }
    }
    Ok(done)
}

/// Ends the daemon and forgets the service. That there is none is no error.
///
/// # Errors
/// The system refuses.
pub fn uninstall() -> anyhow::Result<Vec<String>> {
    let manager = ServiceManager::local_computer(None::<&OsStr>, ServiceManagerAccess::CONNECT)
        .context("cannot reach the service manager; run it in a terminal of an administrator")?;
    let access = ServiceAccess::STOP | ServiceAccess::QUERY_STATUS | ServiceAccess::DELETE;
    let service = match manager.open_service(NAME, access) {
        Err(error) if is(&error, ERROR_SERVICE_DOES_NOT_EXIST) => {
            return Ok(vec!["there was no service".to_owned()]);
        }
        service => service.context("cannot look at the service")?,
    };
    stop(&service)?;
    service.delete().context("cannot delete the service")?;
    Ok(vec![format!("the service {NAME} is gone")])
}

/// What the service is started with.
fn arguments() -> Vec<OsString> {
    ["daemon", "--service"].map(OsString::from).into()
}

fn stop(service: &Service) -> anyhow::Result<()> {
    match service.stop() {
        Err(error) if is(&error, ERROR_SERVICE_NOT_ACTIVE) => return Ok(()),
        stopped => stopped.context("cannot stop the service")?,
    };
    let until = Instant::now() + STOP_TIME;
    while service.query_status()?.current_state != ServiceState::Stopped {
        if Instant::now() >= until {
            bail!("the service does not stop; end it in the task manager and try again");
        }
        std::thread::sleep(STOP_POLL);
    }
    Ok(())
}

fn is(error: &windows_service::Error, code: u32) -> bool {
    let windows_service::Error::Winapi(error) = error else {
        return false;
    };
    error.raw_os_error() == i32::try_from(code).ok()
}

type Work = Box<dyn FnOnce() -> anyhow::Result<()> + Send>;

/// What the service is to do: the system calls a function without arguments.
static WORK: Mutex<Option<Work>> = Mutex::new(None);

define_windows_service!(service_entry, serve);

/// Runs `work` as the service that the system has started this process for, until it ends. It is to end when
/// [`super::EndSignals`] says so.
///
/// # Errors
/// The process was not started as a service.
pub fn run(work: Work) -> anyhow::Result<()> {
    *WORK.lock().unwrap_or_else(PoisonError::into_inner) = Some(work);
    service_dispatcher::start(NAME, service_entry)
        .context("--service is for the service manager alone; run `ztna daemon` without it")
}

fn serve(_arguments: Vec<OsString>) {
    let handler = service_control_handler::register(NAME, |control| match control {
        ServiceControl::Stop | ServiceControl::Shutdown | ServiceControl::Preshutdown => {
            STOP.notify_one();
            ServiceControlHandlerResult::NoError
        }
        ServiceControl::Interrogate => ServiceControlHandlerResult::NoError,
        _ => ServiceControlHandlerResult::NotImplemented,
    });
    let Ok(status) = handler else { return };
    let tell = |state, accepted, exit| {
        // Nobody could be told that it did not arrive.
        let _ = status.set_service_status(ServiceStatus {
            service_type: ServiceType::OWN_PROCESS,
            current_state: state,
            controls_accepted: accepted,
            exit_code: exit,
            checkpoint: 0,
            wait_hint: Duration::ZERO,
            process_id: None,
        });
    };
    let accepted = ServiceControlAccept::STOP | ServiceControlAccept::SHUTDOWN;
    tell(ServiceState::Running, accepted, ServiceExitCode::NO_ERROR);
    let work = WORK.lock().unwrap_or_else(PoisonError::into_inner).take();
    let exit = match work.map(|work| work()) {
        Some(Ok(())) => ServiceExitCode::NO_ERROR,
        // What went wrong is in the log.
        Some(Err(error)) => {
            tracing::error!(error = format!("{error:#}"), "the daemon ended");
            ServiceExitCode::ServiceSpecific(1)
        }
        None => ServiceExitCode::ServiceSpecific(2),
    };
    tell(ServiceState::Stopped, ServiceControlAccept::empty(), exit);
}
