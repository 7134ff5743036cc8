//! Who may open what, on Windows.

#![allow(unsafe_code)] // Security descriptors have no safe form.

use std::io;
use std::os::windows::io::{AsHandle, AsRawHandle};
use std::ptr::null_mut;

use windows_sys::Win32::Foundation::LocalFree;
use windows_sys::Win32::Security::Authorization::{
    ConvertStringSecurityDescriptorToSecurityDescriptorW, GetSecurityInfo, SDDL_REVISION_1,
    SE_KERNEL_OBJECT,
};
use windows_sys::Win32::Security::{
    IsWellKnownSid, OWNER_SECURITY_INFORMATION, PSECURITY_DESCRIPTOR, PSID, SECURITY_ATTRIBUTES,
    WinBuiltinAdministratorsSid, WinLocalSystemSid,
};

/// A security descriptor in memory of the system's.
pub struct SecurityDescriptor(PSECURITY_DESCRIPTOR);

// SAFETY: it is never changed once it is made, and freed by its one owner.
unsafe impl Send for SecurityDescriptor {}
// SAFETY: as above: it is only read.
unsafe impl Sync for SecurityDescriptor {}

impl SecurityDescriptor {
    /// Reads one in its text form (MS-DTYP §2.5.1).
    ///
    /// # Errors
    /// It is none.
    pub fn parse(text: &str) -> io::Result<Self> {
        let wide: Vec<u16> = text.encode_utf16().chain([0]).collect();
        let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
        // SAFETY: the text ends with a zero; the system writes one pointer, to memory that is ours from then on.
        let done = unsafe {
            ConvertStringSecurityDescriptorToSecurityDescriptorW(
                wide.as_ptr(),
                SDDL_REVISION_1,
                &raw mut descriptor,
                null_mut(),
            )
        };
        match done {
            0 => Err(io::Error::last_os_error()),
            _ => Ok(Self(descriptor)),
        }
    }

    /// As calls that make something take it. What is made is not inherited by processes. Valid as long as
    /// this descriptor is.
    #[must_use]
    pub fn attributes(&self) -> SECURITY_ATTRIBUTES {
        SECURITY_ATTRIBUTES {
            nLength: size_of::<SECURITY_ATTRIBUTES>() as u32,
            lpSecurityDescriptor: self.0,
            bInheritHandle: 0,
        }
    }

    /// The descriptor, for calls that set it. Valid as long as this one is.
    #[must_use]
    pub fn as_ptr(&self) -> PSECURITY_DESCRIPTOR {
        self.0
    }
}

impl Drop for SecurityDescriptor {
    fn drop(&mut self) {
        // SAFETY: the system allocated it for us, and nobody else frees it.
        unsafe { LocalFree(self.0) };
    }
}

/// Whether an open object belongs to administrators or the system account.
///
/// # Errors
/// The system does not tell.
pub fn owned_by_administrators(object: &impl AsHandle) -> io::Result<bool> {
    let mut owner: PSID = null_mut();
    let mut descriptor: PSECURITY_DESCRIPTOR = null_mut();
    // SAFETY: the handle is open during the call; the system writes two pointers, the first of them into what
    // the second one points to, which is ours from then on.
    let error = unsafe {
        GetSecurityInfo(
            object.as_handle().as_raw_handle(),
            SE_KERNEL_OBJECT,
            OWNER_SECURITY_INFORMATION,
            &raw mut owner,
            null_mut(),
            null_mut(),
            null_mut(),
            &raw mut descriptor,
        )
    };
    if error != 0 {
        return Err(io::Error::from_raw_os_error(error.cast_signed()));
    }
    let descriptor = SecurityDescriptor(descriptor);
    let is = |kind| {
        // SAFETY: the owner is in the descriptor, which is still there.
        !owner.is_null() && unsafe { IsWellKnownSid(owner, kind) } != 0
    };
    let owned = is(WinBuiltinAdministratorsSid) || is(WinLocalSystemSid);
    drop(descriptor);
    Ok(owned)
}
