//! Blocks of producer ids (R25).

use klamm_protocol::ErrorCode;

use super::{Reason, Refusal, Write};
use crate::image::Image;
use crate::nodes::producer_ids::{BLOCK_LEN, ProducerIdBlock, ProducerIdsNode};
use crate::nodes::{NodeKey, encode};
use crate::tree::Op;

/// Takes the next block for a broker. It may be used once the write is known to have succeeded.
///
/// # Errors
/// When all ids are used up, or the tree has no counter.
pub fn allocate(
    image: &Image,
    broker: i32,
    broker_epoch: i64,
) -> Result<(ProducerIdBlock, Write), Refusal> {
    let refuse = |message: &str| Refusal::new(ErrorCode::UnknownServerError, message);
    let node = image.producer_ids_node().ok_or_else(|| refuse("The tree has no /producer_ids."))?;
    let next =
        node.next.checked_add(BLOCK_LEN).ok_or_else(|| refuse("All producer ids are used up."))?;
    let block = ProducerIdBlock { first: node.next, len: BLOCK_LEN };
    let data = encode(&ProducerIdsNode { next, broker, broker_epoch });
    let op = Op::set(NodeKey::ProducerIds.path(), data, node.version);
    Ok((block, Write::new(Reason::Request, vec![op])))
}
