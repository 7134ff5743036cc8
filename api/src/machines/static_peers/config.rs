//! What a device is configured with: the file that `wg-quick` and the WireGuard apps read, and its QR code.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use qrcode::render::{svg, unicode};
use qrcode::{EcLevel, QrCode};
use zeroize::Zeroizing;
use ztna_proto::keys::{WgPrivateKey, WgPublicKey};
use ztna_proto::static_peers::{PresharedKey, SecretText};

use crate::http::ApiError;

/// What every path carries (RFC 8200 §5), so nothing has to be found out on the device.
const MTU: u16 = 1280;
/// Under the 30 s that NATs remember a flow for at least.
const KEEPALIVE_SECONDS: u16 = 25;
/// Smallest picture, in pixels: cameras read it from a screen.
const QR_PIXELS: u32 = 320;

/// What stands in a device's configuration.
pub(super) struct Settings<'a> {
    pub(super) dns_name: &'a str,
    pub(super) ipv4: Ipv4Addr,
    pub(super) ipv6: Ipv6Addr,
    /// `None`: the device has its own.
    pub(super) private_key: Option<&'a WgPrivateKey>,
    pub(super) preshared_key: Option<&'a PresharedKey>,
    pub(super) gateway_name: &'a str,
    pub(super) gateway_key: &'a WgPublicKey,
    /// `host:port`, checked.
    pub(super) endpoint: &'a str,
    /// The org's.
    pub(super) networks: &'a [IpNet],
}

/// A configuration, written out.
pub(super) struct Written {
    pub(super) config: SecretText,
    pub(super) qr_svg: Option<SecretText>,
    pub(super) qr_text: Option<SecretText>,
}

impl Settings<'_> {
    /// Writes the file and, if it is complete, the QR code of it.
    pub(super) fn write(&self) -> Result<Written, ApiError> {
        let config = self.config();
        let complete = self.private_key.is_some();
        let code = complete.then(|| qr(&config)).transpose()?;
        Ok(Written {
            qr_svg: code.as_ref().map(picture),
            qr_text: code.as_ref().map(lines),
            config,
        })
    }

    fn config(&self) -> SecretText {
        /// More than any configuration has: what grows leaves copies behind.
        const ROOM: usize = 2048;
        let mut text = String::with_capacity(ROOM);
        // Writing into a string does not fail.
        let mut line = |line: std::fmt::Arguments<'_>| {
            let _ = text.write_fmt(line);
        };
        line(format_args!("# {}\n[Interface]\n", self.dns_name));
        match self.private_key {
            Some(key) => {
                let key = key_text(key);
                line(format_args!("PrivateKey = {}\n", *key));
            }
            None => line(format_args!(
                "# PrivateKey = (the device's own; its public key was given)\n"
            )),
        }
        line(format_args!(
            "Address = {}/32, {}/128\nMTU = {MTU}\n\n",
            self.ipv4, self.ipv6
        ));
        line(format_args!(
            "# gateway {}\n[Peer]\nPublicKey = {}\n",
            self.gateway_name, self.gateway_key
        ));
        if let Some(key) = self.preshared_key {
            line(format_args!("PresharedKey = {}\n", *key.to_base64()));
        }
        let networks: Vec<String> = self.networks.iter().map(ToString::to_string).collect();
        line(format_args!(
            "AllowedIPs = {}\nEndpoint = {}\nPersistentKeepalive = {KEEPALIVE_SECONDS}\n",
            networks.join(", "),
            self.endpoint
        ));
        SecretText::new(text)
    }
}

fn key_text(key: &WgPrivateKey) -> Zeroizing<String> {
    use base64::Engine;
    Zeroizing::new(base64::engine::general_purpose::STANDARD.encode(key.expose()))
}

fn qr(config: &SecretText) -> Result<QrCode, ApiError> {
    // The WireGuard apps' own: the least correction, since a screen is clean and the text is long.
    QrCode::with_error_correction_level(config.expose(), EcLevel::L)
        .map_err(|error| ApiError::Internal(format!("a configuration fits no QR code: {error}")))
}

fn picture(code: &QrCode) -> SecretText {
    let picture = code.render::<svg::Color<'_>>();
    SecretText::new(
        { picture }
            .min_dimensions(QR_PIXELS, QR_PIXELS)
            .dark_color(svg::Color("#000000"))
            .light_color(svg::Color("#ffffff"))
            .build(),
    )
}

fn lines(code: &QrCode) -> SecretText {
    // Terminals are dark more often than not.
    let mut lines = code.render::<unicode::Dense1x2>();
    lines
        .dark_color(unicode::Dense1x2::Light)
        .light_color(unicode::Dense1x2::Dark);
    SecretText::new(lines.build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(private_key: Option<&WgPrivateKey>, psk: Option<&PresharedKey>) -> Written {
        let gateway = WgPrivateKey::from_bytes([2; 32]).public();
        Settings {
            dns_name: "phone.acme.ztna.internal",
            ipv4: "100.64.0.9".parse().unwrap(),
            ipv6: "fd00::9".parse().unwrap(),
            private_key,
            preshared_key: psk,
            gateway_name: "gate",
            gateway_key: &gateway,
            endpoint: "vpn.example.com:51820",
            networks: &[
                "100.64.0.0/10".parse().unwrap(),
                "fd00::/48".parse().unwrap(),
            ],
        }
        .write()
        .unwrap()
    }

    #[test]
    fn a_configuration_is_what_wg_quick_reads() {
        let key = WgPrivateKey::from_bytes([1; 32]);
        let psk = PresharedKey::from_slice(&[3; 32]).unwrap();
        let all = written(Some(&key), Some(&psk));
        assert_eq!(
            all.config.expose(),
            "# phone.acme.ztna.internal\n\
             [Interface]\n\
             PrivateKey = AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQE=\n\
             Address = 100.64.0.9/32, fd00::9/128\n\
             MTU = 1280\n\
             \n\
             # gateway gate\n\
             [Peer]\n\
             PublicKey = zo060cy2M+x7cMF4FKXHbs0CloUFDTRHRboFhw5YfVk=\n\
             PresharedKey = AwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwMDAwM=\n\
             AllowedIPs = 100.64.0.0/10, fd00::/48\n\
             Endpoint = vpn.example.com:51820\n\
             PersistentKeepalive = 25\n"
        );
        assert!(all.qr_svg.unwrap().expose().contains("<svg"));
        let text = all.qr_text.unwrap();
        assert!(text.expose().lines().count() > 20, "{}", text.expose());
    }

    #[test]
    fn without_the_devices_private_key_there_is_no_code_to_scan() {
        let own = written(None, None);
        assert!(!own.config.expose().contains("\nPrivateKey"));
        assert!(!own.config.expose().contains("PresharedKey"));
        assert!(own.qr_svg.is_none() && own.qr_text.is_none());
    }
}
