//! The partition table of a new content, fitted to the disk in memory: its backup at the disk's end, its sectors those of
//! the disk, one partition larger, new GUIDs, partitions of the disk beside those of the image. Must not write to a disk.

use sys::block::Device;

use crate::disk::convert;
use crate::disk::gpt::{Error as TableError, Table};
use crate::disk::grow::{self, Which, grow_partition};
use crate::disk::held::{END, Held, View};
use crate::disk::nodes::Extent;
use crate::disk::preserve::{self, Kept, Placed};
use crate::disk::stream::Geometry;
use crate::failed::Failed;

/// What of the image's table becomes otherwise than it came.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Change {
    /// Its backup goes to the end of the disk; without that it stays as it came, and nothing else may be asked for.
    pub is_fixed: bool,
    /// The partition that becomes larger.
    pub grow: Option<Which>,
    /// Every GUID is a new one.
    pub new_guids: bool,
    /// What is done when it was made for sectors of another size.
    pub sectors: Sectors,
}

/// What is done with an image that was made for sectors of another size.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Sectors {
    /// It is not written.
    #[default]
    Refuse,
    /// It is written as it is.
    Ignore,
    /// Its table is rewritten.
    Convert,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Fitted {
    /// Its partitions; none when the content has no GPT.
    pub extents: Option<Vec<Extent>>,
    /// The partition that became larger.
    pub grown: Option<u32>,
    /// The partitions that were there before.
    pub placed: Vec<Placed>,
    /// The size of sectors that it was made for, when that was another one.
    pub was_for: Option<u32>,
}

/// Of the content whose ends are held and whose middle is on the device.
pub fn fit(
    held: &mut Held,
    device: &Device,
    geometry: Geometry,
    change: &Change,
    kept: &Kept,
) -> Result<Fitted, Failed> {
    let sector = geometry.sector;
    let mut view = View::new(held, device);
    let (table, was_for) = match Table::read(&mut view, sector) {
        Err(TableError::SectorSize { of, .. }) if change.sectors == Sectors::Convert => {
            (Some(convert::table(&mut view, of, sector)?), Some(of))
        }
        // To this disk it is no table.
        Err(TableError::SectorSize { .. }) if change.sectors == Sectors::Ignore => (None, None),
        table => (table?, None),
    };
    let Some(mut table) = table else {
        return match change {
            _ if !kept.is_empty() => Err(preserve::Error::NoTable.into()),
            Change { grow: None, new_guids: false, .. } => Ok(Fitted::default()),
            _ => Err(grow::Error::NoTable.into()),
        };
    };
    if !change.is_fixed {
        return Ok(Fitted { extents: Some(table.extents()?), ..Fitted::default() });
    }
    if change.new_guids {
        table.renew_guids()?;
    }
    // Of the image's partitions, also where it is the last one; but no further than to a kept one.
    let wanted = change.grow.as_ref().map(|which| grow::find(&table, which)).transpose()?;
    let placed = kept.add_to(&mut table)?;
    let grown = wanted.map(|number| grow_partition(&mut table, number)).transpose()?;
    let extents = table.extents()?;
    table.write(&mut view)?;
    Ok(Fitted { extents: Some(extents), grown, placed, was_for })
}

/// The same with nothing but the first bytes of the content: whether it can be done, before the disk is touched.
pub fn rehearse(
    head: &[u8],
    device: &Device,
    geometry: Geometry,
    change: &Change,
    kept: &Kept,
) -> Result<Fitted, Failed> {
    let mut held = Held::new(geometry.size);
    let len = head.len().min(END as usize);
    held.head[..len].copy_from_slice(&head[..len]);
    fit(&mut held, device, geometry, change, kept)
}
