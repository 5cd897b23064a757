//! Text that is UTF-8, and text that is not: the suite's section 6.

use super::{
    table::{Answer, check, row},
    wire::{CONTINUATION, Frame, TEXT, fragments},
};

/// A heartbeat with these bytes in a field that nobody reads.
fn around(bytes: &[u8]) -> Vec<u8> {
    [br#"{"type":"heartbeat","x":""#, bytes, br#""}"#].concat()
}

#[tokio::test]
async fn every_character_there_is_may_be_sent() {
    let mut rows = Vec::new();
    for bytes in [
        "Hello-µ@ßöäüàá-UTF-8!!".as_bytes(),
        "κόσμε".as_bytes(),
        // 6.5: the first and last of each length.
        "\u{80}\u{7ff}\u{800}\u{ffff}\u{10000}\u{10ffff}".as_bytes(),
        // 6.9: around the surrogates.
        "\u{d7ff}\u{e000}\u{fffd}".as_bytes(),
        // 6.22, 6.23: those that are no characters, and those for special purposes.
        "\u{fffe}\u{fdd0}\u{1fffe}\u{2ffff}\u{10fffe}\u{feff}\u{fff9}".as_bytes(),
    ] {
        let text = around(bytes);
        rows.push(row(
            "6.2.1, 6.5-6.7, 6.9, 6.22, 6.23: valid text in one frame",
            "5.6",
            [Frame::new(TEXT, &text)],
            [Answer::Ack],
        ));
        rows.push(row(
            "6.2.2-6.2.4: valid text in fragments that end anywhere in a character",
            "5.6",
            fragments(TEXT, text.chunks(1)),
            [Answer::Ack],
        ));
        rows.push(row(
            "6.2.3: valid text in two fragments, one of the ends within a character",
            "5.6",
            {
                let (first, second) = text.split_at(26);
                fragments(TEXT, [first, second])
            },
            [Answer::Ack],
        ));
    }
    check(rows).await;
}

/// What is not UTF-8, by the suite's numbers.
const INVALID: [(&str, &[u8]); 21] = [
    (
        "6.3: a surrogate within Greek",
        b"\xce\xba\xe1\xbd\xb9\xcf\x83\xce\xbc\xce\xb5\xed\xa0\x80edited",
    ),
    ("6.6: a character that is cut off, two bytes long", b"\xce"),
    (
        "6.6: a character that is cut off, three bytes long",
        b"\xe1\xbd",
    ),
    (
        "6.6: a character that is cut off, four bytes long",
        b"\xf0\x90\x80",
    ),
    ("6.8: five bytes for one character", b"\xf8\x88\x80\x80\x80"),
    (
        "6.8: six bytes for one character",
        b"\xfc\x84\x80\x80\x80\x80",
    ),
    ("6.10: beyond the last character", b"\xf4\x90\x80\x80"),
    ("6.11, 6.12: a first byte of nothing", b"\xf5\x80\x80\x80"),
    ("6.12: a continuation byte on its own", b"\x80"),
    ("6.12: the last continuation byte on its own", b"\xbf"),
    ("6.12: many continuation bytes", b"\x80\xbf\x80\xbf\x80\xbf"),
    (
        "6.13: first bytes of two, each before a space",
        b"\xc2 \xdf ",
    ),
    (
        "6.13: first bytes of three, each before a space",
        b"\xe0 \xef ",
    ),
    (
        "6.13: first bytes of four, each before a space",
        b"\xf0 \xf4 ",
    ),
    (
        "6.14, 6.15: characters cut off in a row",
        b"\xe1\xbd\xce\xf0\x90",
    ),
    ("6.16: bytes that are in no text", b"\xfe\xff"),
    ("6.17: a slash in two bytes", b"\xc0\xaf"),
    ("6.17: a slash in three bytes", b"\xe0\x80\xaf"),
    (
        "6.18: the largest that is too long in four bytes",
        b"\xf0\x8f\xbf\xbf",
    ),
    ("6.19: nothing in two bytes", b"\xc0\x80"),
    (
        "6.20, 6.21: surrogates, alone and in a pair",
        b"\xed\xaf\xbf\xed\xbf\xbf",
    ),
];

#[tokio::test]
async fn what_is_not_utf8_ends_the_connection() {
    let mut rows = Vec::new();
    for (case, bytes) in INVALID {
        rows.push(row(
            case,
            "8.1",
            [Frame::new(TEXT, around(bytes))],
            [Answer::Close(1007)],
        ));
        rows.push(row(
            case,
            "8.1",
            fragments(TEXT, around(bytes).chunks(1)),
            [Answer::Close(1007)],
        ));
        rows.push(row(
            case,
            "8.1",
            [Frame::new(TEXT, bytes)],
            [Answer::Close(1007)],
        ));
    }
    rows.push(row(
        "6.6: a text in fragments that ends within a character",
        "8.1",
        fragments(TEXT, [&b"\xf0\x90"[..], b"\x80"]),
        [Answer::Close(1007)],
    ));
    check(rows).await;
}

/// The message is never finished: its end is not needed to see that it is no text.
#[tokio::test]
async fn it_ends_as_soon_as_a_fragment_shows_it() {
    check(vec![
        row(
            "6.4.1: invalid in the first of three fragments",
            "8.1",
            [Frame::new(TEXT, b"\xce\xba\xf4\x90\x80\x80").unfinished()],
            [Answer::Close(1007)],
        ),
        row(
            "6.4.2: invalid from the second on, begun in the first",
            "8.1",
            [
                Frame::new(TEXT, b"\xce\xba\xf4").unfinished(),
                Frame::new(CONTINUATION, b"\x90").unfinished(),
            ],
            [Answer::Close(1007)],
        ),
        row(
            "6.4.3, 6.4.4: invalid in a fragment that follows valid ones",
            "8.1",
            [
                Frame::new(TEXT, b"\xce\xba").unfinished(),
                Frame::new(CONTINUATION, b"\xe1\xbd\xb9").unfinished(),
                Frame::new(CONTINUATION, b"\xff").unfinished(),
            ],
            [Answer::Close(1007)],
        ),
    ])
    .await;
}
