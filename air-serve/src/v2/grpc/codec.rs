//! What tonic's framing carries: a message to send, and the bytes of one that was received.
//!
//! tonic's own codec answers a message that cannot be decoded with `INTERNAL`; it is the caller's fault, so decoding is left to the call.

use std::marker::PhantomData;

use bytes::{Buf, Bytes};
use prost::Message;
use tonic::Status;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};

/// Sends messages of this type.
pub(super) struct Framed<B>(PhantomData<fn(B)>);

impl<B> Framed<B> {
    pub(super) fn new() -> Self {
        Framed(PhantomData)
    }
}

impl<B: Message + 'static> Codec for Framed<B> {
    type Encode = B;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Framed::new()
    }

    fn decoder(&mut self) -> Self {
        Framed::new()
    }
}

impl<B: Message> Encoder for Framed<B> {
    type Item = B;
    type Error = Status;

    fn encode(&mut self, message: B, to: &mut EncodeBuf<'_>) -> Result<(), Status> {
        message.encode(to).map_err(|error| Status::internal(error.to_string()))
    }
}

impl<B> Decoder for Framed<B> {
    type Item = Bytes;
    type Error = Status;

    fn decode(&mut self, from: &mut DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(Some(from.copy_to_bytes(from.remaining())))
    }
}
