//! An S3 server for the benchmark of checkpoints: S3's protocol by the crate `s3s`, objects in this process's memory.
//!
//! As Amazon's it verifies every signature, the SHA-256 of what is signed with one, the checksums of every part that come
//! with it and those of parts by which an upload is completed; it computes a CRC-64/NVME of everything, and tells an
//! object's on request. Its entity tags are made of that, and not of an MD5: as Amazon's of encrypted objects.
//!
//! Listens on a free port of 127.0.0.1, and says which. Its arguments are a key, its secret and the buckets that there are.

mod objects;

use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto::Builder;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tokio::net::TcpListener;

use crate::objects::Objects;

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(key), Some(secret)) = (arguments.next(), arguments.next()) else {
        eprintln!("usage: s3-server ACCESS_KEY SECRET_KEY BUCKET…");
        std::process::exit(2);
    };
    let mut service = S3ServiceBuilder::new(Objects::with_buckets(arguments));
    service.set_auth(SimpleAuth::from_single(key, secret));
    let service = service.build();
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    println!("Running on http://{}", listener.local_addr()?);
    let server = Builder::new(TokioExecutor::new());
    loop {
        let (stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let connection = server.serve_connection(TokioIo::new(stream), service.clone()).into_owned();
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                eprintln!("a connection broke: {error}");
            }
        });
    }
}
