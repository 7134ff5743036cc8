//! Files, users and the process itself.

use std::ffi::OsString;
use std::fs::{Metadata, OpenOptions};
use std::io;
use std::os::windows::ffi::{OsStrExt, OsStringExt};
use std::os::windows::fs::{MetadataExt, OpenOptionsExt};
use std::os::windows::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use tokio::signal::windows::{CtrlBreak, CtrlC, CtrlShutdown, ctrl_break, ctrl_c, ctrl_shutdown};
use windows_sys::Win32::Foundation::{CloseHandle, HANDLE};
use windows_sys::Win32::Security::{
    DACL_SECURITY_INFORMATION, GetTokenInformation, OWNER_SECURITY_INFORMATION,
    PROTECTED_DACL_SECURITY_INFORMATION, SetFileSecurityW, TOKEN_ELEVATION, TOKEN_QUERY,
    TokenElevation,
};
use windows_sys::Win32::Storage::FileSystem::{
    CreateDirectoryW, FILE_ATTRIBUTE_REPARSE_POINT, FILE_FLAG_BACKUP_SEMANTICS,
    FILE_FLAG_OPEN_REPARSE_POINT,
};
use windows_sys::Win32::System::SystemInformation::{
    ComputerNamePhysicalDnsHostname, GetComputerNameExW,
};
use windows_sys::Win32::System::Threading::{
    CREATE_NEW_PROCESS_GROUP, DETACHED_PROCESS, GetCurrentProcess, OpenProcessToken,
};
use ztna_local::access::{SecurityDescriptor, owned_by_administrators};

/// Owner: administrators. They and the system account have full access, to what is inside too; nobody else has
/// any, and nothing is inherited from above (MS-DTYP §2.5.1).
const PRIVATE: &str = "O:BAD:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)";
/// Longest name of a computer, in UTF-16 units.
const MAX_HOST_NAME: usize = 256;

/// Whether this process may do everything: the system account, or an administrator who said yes.
pub fn is_administrator() -> bool {
    let mut token: HANDLE = std::ptr::null_mut();
    // SAFETY: the system writes one handle, which is ours to close.
    if unsafe { OpenProcessToken(GetCurrentProcess(), TOKEN_QUERY, &raw mut token) } == 0 {
        return false;
    }
    let mut elevation = TOKEN_ELEVATION { TokenIsElevated: 0 };
    let mut length = 0;
    // SAFETY: the token is open; the system writes at most the size that is said, and a length.
    let told = unsafe {
        GetTokenInformation(
            token,
            TokenElevation,
            (&raw mut elevation).cast(),
            size_of::<TOKEN_ELEVATION>() as u32,
            &raw mut length,
        )
    };
    // SAFETY: it is open, and closed once.
    unsafe { CloseHandle(token) };
    told != 0 && elevation.TokenIsElevated != 0
}

/// Whether this process may make devices and set addresses and routes; if not, why and what to do.
///
/// # Errors
/// None here.
pub fn may_make_devices() -> anyhow::Result<Result<(), &'static str>> {
    Ok(match is_administrator() {
        true => Ok(()),
        false => Err(
            "the ztna daemon needs an administrator's rights to make the tunnel device; run it in a \
             terminal of an administrator",
        ),
    })
}

/// Where the driver's library is: beside the program, where only administrators write. A name without a folder
/// would be looked for in others.
pub fn wintun_file() -> String {
    let program = std::env::current_exe().unwrap_or_default();
    let file = program.with_file_name("wintun.dll");
    file.to_string_lossy().into_owned()
}

/// What it means that there is no device, and what to do.
pub fn device_hint(error: &io::Error) -> String {
    let file = wintun_file();
    match Path::new(&file).is_file() {
        false => format!(
            "the driver's library {file} is missing; run install.ps1 again, or put wintun.dll of \
             https://www.wintun.net there"
        ),
        true => error.to_string(),
    }
}

/// Windows keeps no core dumps of services; memory is not locked.
pub fn protect_memory() -> Option<String> {
    None
}

/// The system's own name.
pub fn host_name() -> Option<String> {
    let mut name = [0_u16; MAX_HOST_NAME];
    let mut length = MAX_HOST_NAME as u32;
    // SAFETY: the system writes at most as many units as are said, and how many it wrote.
    let told = unsafe {
        GetComputerNameExW(
            ComputerNamePhysicalDnsHostname,
            name.as_mut_ptr(),
            &raw mut length,
        )
    };
    let name = name.get(..usize::try_from(length).ok()?)?;
    (told != 0)
        .then(|| OsString::from_wide(name))?
        .into_string()
        .ok()
}

/// Users have no numbers here.
pub fn user_id(_name: &str) -> Option<u32> {
    None
}

/// Makes a folder that administrators and the system account alone can look into, or closes one of theirs.
///
/// # Errors
/// The system refused, or somebody else has made it: anybody may make folders where ours is, and who made one
/// can always open it again.
pub fn private_folder(path: &Path) -> io::Result<()> {
    if let Some(above) = path.parent() {
        std::fs::create_dir_all(above)?;
    }
    let access = SecurityDescriptor::parse(PRIVATE)?;
    let wide: Vec<u16> = path.as_os_str().encode_wide().chain([0]).collect();
    let attributes = access.attributes();
    // SAFETY: the path ends with a zero, and the attributes and what they point to outlive the call.
    if unsafe { CreateDirectoryW(wide.as_ptr(), &raw const attributes) } != 0 {
        return Ok(());
    }
    let error = io::Error::last_os_error();
    if error.kind() != io::ErrorKind::AlreadyExists {
        return Err(error);
    }
    let folder = OpenOptions::new()
        .read(true)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT)
        .open(path)?;
    let is_link = folder.metadata()?.file_attributes() & FILE_ATTRIBUTE_REPARSE_POINT != 0;
    if is_link || !owned_by_administrators(&folder)? {
        return Err(io::Error::new(
            io::ErrorKind::PermissionDenied,
            "it belongs to somebody who is no administrator; look at what is in it, and delete it",
        ));
    }
    let what = OWNER_SECURITY_INFORMATION
        | DACL_SECURITY_INFORMATION
        | PROTECTED_DACL_SECURITY_INFORMATION;
    // SAFETY: the path ends with a zero, and the descriptor outlives the call.
    match unsafe { SetFileSecurityW(wide.as_ptr(), what, access.as_ptr()) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Makes a person's folder, if it is not there. It is in the person's profile, which is theirs alone.
///
/// # Errors
/// The system refused.
pub fn person_folder(path: &Path) -> io::Result<()> {
    std::fs::create_dir_all(path)
}

/// Who may open a file follows from its folder.
pub fn file_mode(options: &mut OpenOptions, _mode: u32) -> &mut OpenOptions {
    options
}

/// Whether others than this user can read a file: its folder decides.
pub fn readable_by_others(_file: &Metadata) -> bool {
    false
}

/// NTFS writes entries down with the file.
///
/// # Errors
/// None here.
pub fn sync_folder(_path: &Path) -> io::Result<()> {
    Ok(())
}

/// The person who runs this command.
pub struct Person {
    /// The person's folder for configuration, which is not carried to other machines.
    pub config: PathBuf,
}

impl Person {
    /// The person who runs this command. `None`: without a profile.
    pub fn calling() -> Option<Self> {
        let config = std::env::var_os("LOCALAPPDATA").filter(|value| !value.is_empty())?;
        Some(Self::with_config(config.into()))
    }

    /// With another folder for configuration.
    pub fn with_config(config: PathBuf) -> Self {
        Self { config }
    }

    /// Does it with the rights of the person, who is this process's user.
    ///
    /// # Errors
    /// That of the work.
    pub fn act<T>(&self, work: impl FnOnce() -> anyhow::Result<T>) -> anyhow::Result<T> {
        work()
    }
}

/// What tells the daemon to end.
pub struct EndSignals {
    interrupt: CtrlC,
    stop: CtrlBreak,
    shutdown: CtrlShutdown,
}

impl EndSignals {
    /// From now on.
    ///
    /// # Errors
    /// Signals cannot be received.
    pub fn listen() -> io::Result<Self> {
        Ok(Self {
            interrupt: ctrl_c()?,
            stop: ctrl_break()?,
            shutdown: ctrl_shutdown()?,
        })
    }

    /// Waits for one.
    pub async fn wait(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.stop.recv() => {}
            _ = self.shutdown.recv() => {}
            () = super::service::STOP.notified() => {}
        }
    }
}

/// Has a command that is to outlive this one start without its console.
pub fn detach(command: &mut Command) {
    command.creation_flags(DETACHED_PROCESS | CREATE_NEW_PROCESS_GROUP);
}

/// A detached process has no console to leave.
///
/// # Errors
/// None here.
pub fn leave_terminal() -> io::Result<()> {
    Ok(())
}

/// Opens an address in the person's browser.
pub fn open_browser(url: &str) {
    // The address is one argument here; `cmd /c start` would read it as a command line. Without it the printed
    // address has to do.
    let _ = Command::new("rundll32.exe")
        .args(["url.dll,FileProtocolHandler", url])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_a_name() {
        assert!(host_name().is_some_and(|name| !name.is_empty()));
    }

    #[test]
    fn a_private_folder_is_made_and_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("above").join("ztna");
        private_folder(&path).unwrap();
        std::fs::write(path.join("file"), b"x").unwrap();
        private_folder(&path).unwrap();
        assert_eq!(std::fs::read(path.join("file")).unwrap(), b"x");
    }

    #[test]
    fn the_driver_is_looked_for_beside_the_program() {
        let file = PathBuf::from(wintun_file());
        assert_eq!(file.parent(), std::env::current_exe().unwrap().parent());
        assert!(device_hint(&io::Error::other("x")).contains("install.ps1"));
    }
}
