//! What the node serves, for tools that ask (`grpc.reflection.v1`): the public
//! API and the health service. How nodes speak to each other is nobody else's
//! business.

use tonic_reflection::server::Builder;
use tonic_reflection::server::v1::{ServerReflection, ServerReflectionServer};

/// The service.
///
/// # Panics
/// Never with descriptors that are compiled in and whole, which a test holds.
pub(crate) fn service() -> ServerReflectionServer<impl ServerReflection> {
    let builder = Builder::configure()
        .register_encoded_file_descriptor_set(quipu_protocol::DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
    builder.build_v1().expect("what is compiled in is whole")
}

#[cfg(test)]
mod tests {
    #[test]
    fn what_is_compiled_in_is_whole() {
        let _ = super::service();
    }
}
