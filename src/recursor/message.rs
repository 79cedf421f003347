//! Messages from name servers, parsed into sets of records.

use smallvec::SmallVec;

use crate::name::DomainName;
use crate::query::{Rcode, RecordType};

/// The data of one record: uncompressed, letters in names as they came.
pub type Rdata = Box<[u8]>;

/// All records of one owner and type in one section, with the signatures over them. Class IN.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RrSet {
    /// The owner.
    pub name: DomainName,
    /// The type.
    pub rtype: RecordType,
    /// The time to live in seconds: the least that any of the records has (RFC 2181, section 5.2).
    pub ttl: u32,
    /// The data of each record, without duplicates (RFC 2181, section 5).
    pub rdata: SmallVec<[Rdata; 2]>,
    /// The data of each RRSIG record that covers this type at this owner.
    pub signatures: SmallVec<[Rdata; 1]>,
}

/// A message from a name server, without its question and OPT.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Message {
    /// The response code, extended bits included.
    pub rcode: Rcode,
    /// The server says that it is an authority for the answer.
    pub authoritative: bool,
    /// The message did not fit and is cut off.
    pub truncated: bool,
    /// The server says that it resolves recursively.
    pub recursion_available: bool,
    /// The server says that the data is authentic.
    pub authentic_data: bool,
    /// The answer section, in the order of the message.
    pub answer: Vec<RrSet>,
    /// The authority section.
    pub authority: Vec<RrSet>,
    /// The additional section.
    pub additional: Vec<RrSet>,
    /// The server has sent an OPT record.
    pub edns: bool,
}
