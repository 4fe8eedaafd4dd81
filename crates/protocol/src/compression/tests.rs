use bytes::Bytes;
use proptest::prelude::*;

use super::*;

const CODECS: [Compression; 4] =
    [Compression::Gzip, Compression::Snappy, Compression::Lz4, Compression::Zstd];

fn round_trip(codec: Compression, input: &[u8]) -> Bytes {
    let compressed = compress(codec, None, input).expect("compresses").into();
    decompress(codec, &compressed, input.len()).expect("decompresses")
}

#[test]
fn names_and_numbers_are_kafkas() {
    for (id, name) in (0..).zip(["none", "gzip", "snappy", "lz4", "zstd"]) {
        let codec = Compression::from_id(id).expect("defined");
        assert_eq!(codec.id(), id);
        assert_eq!(codec.to_string(), name);
        assert_eq!(name.parse(), Ok(codec));
    }
    assert_eq!(Compression::from_id(5), Err(UnknownCodec { id: 5 }));
    assert!("brotli".parse::<Compression>().is_err());
}

#[test]
fn nothing_and_much_come_back() {
    let much = b"0123456789abcdef".repeat(100_000);
    for codec in Compression::ALL {
        assert_eq!(round_trip(codec, b""), Bytes::new(), "{codec}");
        assert_eq!(round_trip(codec, &much), much, "{codec}");
    }
}

#[test]
fn output_is_capped_to_the_byte() {
    let zeros = vec![0; 1_000_000];
    for codec in Compression::ALL {
        let compressed = compress(codec, None, &zeros).expect("compresses").into();
        let bytes_max = zeros.len() - 1;
        assert_eq!(
            decompress(codec, &compressed, bytes_max),
            Err(DecompressError::TooLarge { codec, bytes_max }),
        );
        assert!(decompress(codec, &compressed, zeros.len()).is_ok(), "{codec}");
    }
}

#[test]
fn truncated_input_is_corrupt() {
    let input: Vec<u8> = (0..200_000_u32).flat_map(|n| n.wrapping_mul(n).to_be_bytes()).collect();
    for codec in CODECS {
        let compressed = Bytes::from(compress(codec, None, &input).expect("compresses"));
        for len in [1, compressed.len() / 2, compressed.len() - 1] {
            let result = decompress(codec, &compressed.slice(..len), input.len());
            assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{codec} at {len}");
        }
    }
}

#[test]
fn snappy_without_framing_is_read() {
    let input = b"unframed ".repeat(1000);
    let raw = snap::raw::Encoder::new().compress_vec(&input).expect("compresses").into();
    assert_eq!(decompress(Compression::Snappy, &raw, input.len()), Ok(input.into()));
}

#[test]
fn snappy_is_written_in_javas_framing() {
    let compressed = compress(Compression::Snappy, None, &[7; 40_000]).expect("compresses");
    assert_eq!(compressed[..16], *b"\x82SNAPPY\0\0\0\0\x01\0\0\0\x01");
    let first = u32::from_be_bytes(compressed[16..20].try_into().expect("four bytes")) as usize;
    assert_eq!(snap::raw::decompress_len(&compressed[20..20 + first]), Ok(32 * 1024));
}

#[test]
fn snappys_claimed_length_gets_no_memory() {
    // A length of almost 4 GiB in five bytes, and nothing behind it.
    let claim = Bytes::from_static(&[0xff, 0xff, 0xff, 0xff, 0x0f]);
    let result = decompress(Compression::Snappy, &claim, usize::MAX);
    assert!(matches!(result, Err(DecompressError::Corrupt { .. })), "{result:?}");
}

#[test]
fn gzip_members_are_joined_as_java_does() {
    let mut members = compress(Compression::Gzip, None, b"one ").expect("compresses");
    members.extend(compress(Compression::Gzip, None, b"two").expect("compresses"));
    let both = decompress(Compression::Gzip, &members.into(), 100);
    assert_eq!(both, Ok(Bytes::from_static(b"one two")));
}

#[test]
fn levels_out_of_range_are_refused() {
    for (codec, level) in [(Compression::Gzip, 10), (Compression::Gzip, 0), (Compression::Zstd, 23)]
    {
        let error = compress(codec, Some(level), b"x").expect_err("refused");
        assert!(error.reason.contains(&level.to_string()), "{error}");
    }
    assert!(compress(Compression::Zstd, Some(19), b"x").is_ok());
    assert!(compress(Compression::Gzip, Some(9), b"x").is_ok());
}

#[test]
fn lz4_blocks_are_independent_as_java_demands() {
    let compressed = compress(Compression::Lz4, None, &[1; 200_000]).expect("compresses");
    assert_eq!(compressed[..4], 0x184D_2204_u32.to_le_bytes());
    let (version, independent) = (compressed[4] >> 6, compressed[4] & 0b10_0000 != 0);
    assert_eq!((version, independent), (1, true));
    assert_eq!(compressed[5], 0b0100_0000, "blocks of 64 KiB");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn anything_comes_back(input in prop::collection::vec(any::<u8>(), 0..5000)) {
        for codec in Compression::ALL {
            prop_assert_eq!(&round_trip(codec, &input)[..], &input[..]);
        }
    }

    #[test]
    fn any_bytes_give_bounded_output_or_an_error(
        input in prop::collection::vec(any::<u8>(), 0..500),
    ) {
        for codec in CODECS {
            if let Ok(output) = decompress(codec, &input.clone().into(), 1000) {
                prop_assert!(output.len() <= 1000);
            }
        }
    }

    #[test]
    fn damaged_output_gives_bounded_output_or_an_error(
        input in prop::collection::vec(0..4_u8, 0..2000),
        at in any::<prop::sample::Index>(),
        byte in any::<u8>(),
    ) {
        for codec in CODECS {
            let mut compressed = compress(codec, None, &input).expect("compresses");
            let at = at.index(compressed.len());
            compressed[at] = byte;
            if let Ok(output) = decompress(codec, &compressed.into(), 2000) {
                prop_assert!(output.len() <= 2000);
            }
        }
    }
}
