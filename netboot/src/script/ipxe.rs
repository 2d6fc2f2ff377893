//! iPXE scripts, pure. No path through a script ends in silence: message, wait, retry, start again.
//! The loops use nothing but what Debian's oldest supported iPXE (2019) and the ROMs of QEMU understand.

use spec::Mac;

use super::line::Line;
use super::plain;
use crate::Settings;

const TRIES: u32 = 5;
/// What every script ends with that cannot go on.
const AGAIN: &str = "sleep 60 ||\nreboot || exit 1\n";

/// Kernel, initramfs, and the line between them.
pub(super) fn installer(who: &str, base: &str, [vmlinuz, initramfs]: &[String; 2], line: &Line) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {who} boots the installation environment\n\
         set tries:int32 0\n\
         :kernel\n\
         set step kernel\n\
         set file {base}/{vmlinuz}\n\
         kernel ${{file}} {line} && goto initrd || goto failed\n\
         :initrd\n\
         set step initrd\n\
         set file {base}/{initramfs}\n\
         initrd ${{file}} && goto boot || goto failed\n\
         :boot\n\
         set step kernel\n\
         set file the kernel, which was loaded but does not start\n\
         boot ||\n\
         imgfree ||\n\
         :failed\n\
         inc tries\n\
         echo Ironhook: attempt ${{tries}} of {TRIES} failed: ${{file}}\n\
         iseq ${{tries}} {TRIES} && goto given_up ||\n\
         echo Ironhook: next attempt in 5 seconds\n\
         sleep 5 ||\n\
         goto ${{step}}\n\
         :given_up\n\
         echo Ironhook: given up; the server's log says what it sent. This machine starts again in 60 seconds\n\
         {AGAIN}",
        line = line.text,
    )
}

/// The first disk under a BIOS, the firmware's next choice under UEFI.
pub(super) fn disk(who: &str, why: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {who} boots from its own disk: {why}\n\
         iseq ${{platform}} efi && goto firmware ||\n\
         sanboot --no-describe --drive 0x80 || goto failed\n\
         :firmware\n\
         echo Ironhook: back to the firmware, which goes on with its boot order\n\
         exit 1\n\
         :failed\n\
         echo Ironhook: the first disk (0x80) does not boot. This machine starts again in 60 seconds\n\
         {AGAIN}",
        why = plain(why),
    )
}

/// The reason on the screen, and the same question every five minutes: a new workflow goes on without a hand.
pub(super) fn park(who: &str, why: &str, mac: Mac, settings: &Settings) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {who} is parked (boot_loop): {why}\n\
         echo Ironhook: correct it and apply a new workflow; this machine asks again every 5 minutes\n\
         :again\n\
         sleep 300 ||\n\
         chain --replace --autofree {url} || goto again\n",
        why = plain(why),
        url = settings.script_url(mac),
    )
}

/// Another script, tried again as it is needed.
pub(super) fn chain(who: &str, url: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {who} goes on with {url}\n\
         set tries:int32 0\n\
         :chain\n\
         chain --autofree {url} && goto failed || goto failed\n\
         :failed\n\
         inc tries\n\
         echo Ironhook: attempt ${{tries}} of {TRIES} failed: {url}\n\
         iseq ${{tries}} {TRIES} && goto given_up ||\n\
         sleep 5 ||\n\
         goto chain\n\
         :given_up\n\
         echo Ironhook: given up. This machine starts again in 60 seconds\n\
         {AGAIN}",
    )
}

/// What iPXE runs before it has configured anything: under UEFI it comes by the firmware's network, which is not its own.
pub(super) fn autoexec(mac: Mac, settings: &Settings) -> String {
    format!(
        "#!ipxe\n\
         set tries:int32 0\n\
         :configure\n\
         dhcp && goto script ||\n\
         inc tries\n\
         echo Ironhook: attempt ${{tries}} of {TRIES}: no address from DHCP\n\
         iseq ${{tries}} {TRIES} && goto given_up ||\n\
         sleep 5 ||\n\
         goto configure\n\
         :script\n\
         chain --replace --autofree {url} ||\n\
         echo Ironhook: the server has no script for this machine, or does not answer\n\
         :given_up\n\
         echo Ironhook: given up. This machine starts again in 60 seconds\n\
         {AGAIN}",
        url = settings.script_url(mac),
    )
}

/// The same question again, with what only the machine knows.
pub(super) fn ask(mac: Mac, settings: &Settings) -> String {
    format!(
        "#!ipxe\n\
         chain --replace --autofree {url}?uuid=${{uuid}}&serial=${{serial:uristring}}&manufacturer=${{manufacturer:uristring}}&product=${{product:uristring}}&asked=1 ||\n\
         echo Ironhook: the server does not answer. This machine starts again in 60 seconds\n\
         {AGAIN}",
        url = settings.script_url(mac),
    )
}

/// What a machine is sent when there is a script for it but none can be made: the reason, on its screen.
pub(super) fn failure(who: &str, why: &str) -> String {
    format!(
        "#!ipxe\n\
         echo Ironhook: {who} cannot be booted: {}\n\
         echo Ironhook: correct it on the server; this machine starts again in 60 seconds\n\
         {AGAIN}",
        plain(why),
    )
}
