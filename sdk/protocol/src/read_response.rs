//! The message `quipu.v1.ReadResponse`, which is as `records.proto` says.
//!
//! By hand, because what prost generates has each batch as one piece of memory: a
//! server would have to copy every batch once more for every reader, only to write
//! its place into it. This one writes batches as [`PlacedBatch`]es are.

use prost::DecodeError;
use prost::bytes::{Buf, BufMut, Bytes};
use prost::encoding::{DecodeContext, WireType, bytes, encode_key, encode_varint, encoded_len_varint, key_len};
use prost::encoding::{message, skip_field, uint64};

use crate::batch::PlacedBatch;
use crate::v1::Freshness;

/// What a Read stream answers. Its fields are told in `records.proto`.
#[derive(Clone, Debug, Default)]
pub struct ReadResponse {
    /// Batches with their offsets, in order. The first one may begin before the
    /// offset that was asked for, the last one may end after `max_records`.
    pub batches: Vec<PlacedBatch>,
    /// The first offset that could be read as of this answer.
    pub start: u64,
    /// The offset after the last one.
    pub end: u64,
    /// Where the next answer goes on.
    pub next: u64,
    /// The log's id.
    pub log_id: u64,
    /// How old it may be; of a local read.
    pub freshness: Option<Freshness>,
}

const BATCHES: u32 = 1;
const START: u32 = 2;
const END: u32 = 3;
const NEXT: u32 = 4;
const LOG_ID: u32 = 5;
const FRESHNESS: u32 = 50;

impl ReadResponse {
    fn numbers(&self) -> [(u32, &u64); 4] {
        [(START, &self.start), (END, &self.end), (NEXT, &self.next), (LOG_ID, &self.log_id)]
    }
}

impl prost::Message for ReadResponse {
    fn encode_raw(&self, buffer: &mut impl BufMut) {
        for batch in &self.batches {
            encode_key(BATCHES, WireType::LengthDelimited, buffer);
            encode_varint(batch.len() as u64, buffer);
            batch.write(buffer);
        }
        for (tag, number) in self.numbers() {
            if *number != 0 {
                uint64::encode(tag, number, buffer);
            }
        }
        if let Some(freshness) = &self.freshness {
            message::encode(FRESHNESS, freshness, buffer);
        }
    }

    fn merge_field(
        &mut self,
        tag: u32,
        wire_type: WireType,
        buffer: &mut impl Buf,
        context: DecodeContext,
    ) -> Result<(), DecodeError> {
        match tag {
            BATCHES => {
                let mut batch = Bytes::new();
                bytes::merge(wire_type, &mut batch, buffer, context)?;
                self.batches.push(batch.into());
                Ok(())
            }
            START => uint64::merge(wire_type, &mut self.start, buffer, context),
            END => uint64::merge(wire_type, &mut self.end, buffer, context),
            NEXT => uint64::merge(wire_type, &mut self.next, buffer, context),
            LOG_ID => uint64::merge(wire_type, &mut self.log_id, buffer, context),
            FRESHNESS => message::merge(wire_type, self.freshness.get_or_insert_default(), buffer, context),
            _ => skip_field(wire_type, tag, buffer, context),
        }
    }

    fn encoded_len(&self) -> usize {
        let batch = |batch: &PlacedBatch| key_len(BATCHES) + encoded_len_varint(batch.len() as u64) + batch.len();
        let batches: usize = self.batches.iter().map(batch).sum();
        let numbers = self.numbers().into_iter().filter(|(_, number)| **number != 0);
        let numbers: usize = numbers.map(|(tag, number)| uint64::encoded_len(tag, number)).sum();
        let freshness = self.freshness.as_ref().map_or(0, |freshness| message::encoded_len(FRESHNESS, freshness));
        batches + numbers + freshness
    }

    fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use prost::Message as _;

    use super::*;
    use crate::batch::with_position;
    use crate::{DESCRIPTORS, Offset};

    /// The message as prost would generate it.
    #[derive(Clone, PartialEq, prost::Message)]
    struct Generated {
        #[prost(bytes = "bytes", repeated, tag = "1")]
        batches: Vec<Bytes>,
        #[prost(uint64, tag = "2")]
        start: u64,
        #[prost(uint64, tag = "3")]
        end: u64,
        #[prost(uint64, tag = "4")]
        next: u64,
        #[prost(uint64, tag = "5")]
        log_id: u64,
        #[prost(message, optional, tag = "50")]
        freshness: Option<Freshness>,
    }

    fn response() -> ReadResponse {
        let batch = Bytes::from((0_u8..200).collect::<Vec<u8>>());
        let batches = (0..3).map(|n| PlacedBatch::new(batch.clone(), Offset::new(1000 * n), 9)).collect();
        let freshness = Some(Freshness { leader_end: 3001, age_ms: Some(0) });
        ReadResponse { batches, start: 7, end: 3000, next: 0, log_id: u64::MAX, freshness }
    }

    fn generated(response: ReadResponse) -> Generated {
        let ReadResponse { batches, start, end, next, log_id, freshness } = response;
        let batches = batches.into_iter().map(PlacedBatch::into_bytes).collect();
        Generated { batches, start, end, next, log_id, freshness }
    }

    #[test]
    fn it_is_written_and_read_as_a_generated_one() {
        for response in [response(), ReadResponse::default()] {
            let twin = generated(response.clone());
            let written = response.encode_to_vec();
            assert_eq!(written, twin.encode_to_vec());
            assert_eq!(written.len(), response.encoded_len());
            let read = ReadResponse::decode(written.as_slice()).expect("what was written");
            assert_eq!(generated(read), twin);
        }
        let first = generated(response()).batches.swap_remove(0);
        assert_eq!(first, with_position(response().batches[0].shared(), Offset::ZERO, 9));
    }

    #[test]
    fn what_is_read_is_a_slice_of_what_was_received() {
        let received = Bytes::from(response().encode_to_vec());
        let lies_in = received.as_ptr_range();
        let read = ReadResponse::decode(received).expect("what was written");
        assert!(read.batches.iter().all(|batch| lies_in.contains(&batch.shared().as_ptr())));
    }

    #[test]
    fn unknown_fields_are_skipped_and_bad_ones_refused() {
        let mut longer = response().encode_to_vec();
        uint64::encode(77, &5, &mut longer);
        assert_eq!(ReadResponse::decode(longer.as_slice()).expect("a field more").end, 3000);
        for cut in [1, 2, 100, 250] {
            ReadResponse::decode(&longer[..longer.len() - cut]).expect_err("it is cut");
        }
    }

    #[test]
    fn its_fields_are_those_of_the_public_description() {
        let files = prost_types::FileDescriptorSet::decode(DESCRIPTORS).expect("descriptors");
        let messages = files.file.iter().flat_map(|file| &file.message_type);
        let told = messages.filter(|message| message.name() == "ReadResponse").flat_map(|message| &message.field);
        let told: Vec<(i32, &str)> = told.map(|field| (field.number(), field.name())).collect();
        let here = [(1, "batches"), (2, "start"), (3, "end"), (4, "next"), (5, "log_id"), (50, "freshness")];
        assert_eq!(told, here);
    }
}
