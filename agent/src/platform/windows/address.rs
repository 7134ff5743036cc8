//! The address of a service for this machine alone.

use std::io;
use std::net::Ipv4Addr;

use windows_sys::Win32::Foundation::{ERROR_OBJECT_ALREADY_EXISTS, NO_ERROR};
use windows_sys::Win32::NetworkManagement::IpHelper::{
    CreateUnicastIpAddressEntry, InitializeUnicastIpAddressEntry, MIB_UNICASTIPADDRESS_ROW,
};
use windows_sys::Win32::Networking::WinSock::{AF_INET, IpDadStatePreferred};

/// Gives a device the address of a service for this machine alone. It is no source of packets to others, and
/// goes with the device.
///
/// # Errors
/// What the system refused.
#[allow(clippy::unused_async)] // As elsewhere.
pub async fn add_service_address(index: u32, address: Ipv4Addr) -> io::Result<()> {
    // SAFETY: zeroes are a value of this plain structure, and the next call fills it.
    let mut row: MIB_UNICASTIPADDRESS_ROW = unsafe { std::mem::zeroed() };
    // SAFETY: the row is ours and as long as the system takes it to be.
    unsafe { InitializeUnicastIpAddressEntry(&raw mut row) };
    row.InterfaceIndex = index;
    row.Address.Ipv4.sin_family = AF_INET;
    row.Address.Ipv4.sin_addr.S_un.S_addr = u32::from_ne_bytes(address.octets());
    row.OnLinkPrefixLength = 32;
    row.DadState = IpDadStatePreferred;
    row.SkipAsSource = true;
    // SAFETY: the row is filled, and only read.
    match unsafe { CreateUnicastIpAddressEntry(&raw const row) } {
        NO_ERROR | ERROR_OBJECT_ALREADY_EXISTS => Ok(()),
        error => Err(io::Error::from_raw_os_error(error.cast_signed())),
    }
}

/// Takes that back: nothing to do, it goes with the device.
pub fn remove_service_address(_address: Ipv4Addr) {}
