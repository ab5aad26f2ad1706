#include "frame.h"

#define MAJOR 0x10

uint32_t fb_crc32(uint32_t crc, const uint8_t *data, size_t length)
{
    static const uint32_t nibble[16] = {
        0x00000000u, 0x1DB71064u, 0x3B6E20C8u, 0x26D930ACu, 0x76DC4190u, 0x6B6B51F4u, 0x4DB26158u, 0x5005713Cu,
        0xEDB88320u, 0xF00F9344u, 0xD6D6A3E8u, 0xCB61B38Cu, 0x9B64C2B0u, 0x86D3D2D4u, 0xA00AE278u, 0xBDBDF21Cu,
    };
    crc = ~crc;
    for (size_t i = 0; i < length; i++) {
        crc ^= data[i];
        crc = (crc >> 4) ^ nibble[crc & 15u];
        crc = (crc >> 4) ^ nibble[crc & 15u];
    }
    return ~crc;
}

/* Inside a session the schema id comes first. */
static uint32_t start_of_crc(uint8_t session, uint32_t schema_id)
{
    uint8_t id[4];
    fb_put(id, schema_id, 4);
    return session != 0 ? fb_crc32(0, id, 4) : 0;
}

/* -- out: COBS as the bytes come -------------------------------------------------------------------------------- */

size_t fb_wire_size(uint8_t length)
{
    return FB_HEADER_BYTES + (size_t)length + FB_CRC_BYTES + 3; /* two delimiters and one code byte, always */
}

size_t fb_encode(const fb_frame *frame, uint32_t schema_id, uint8_t *wire)
{
    const uint8_t head[FB_HEADER_BYTES] = {(uint8_t)(MAJOR | frame->flags), frame->type, frame->seq, frame->session};
    uint8_t crc[FB_CRC_BYTES];
    uint32_t sum = fb_crc32(start_of_crc(frame->session, schema_id), head, FB_HEADER_BYTES);
    fb_put(crc, fb_crc32(sum, frame->payload, frame->length), FB_CRC_BYTES);

    const struct {
        const uint8_t *bytes;
        size_t length;
    } parts[] = {{head, FB_HEADER_BYTES}, {frame->payload, frame->length}, {crc, FB_CRC_BYTES}};
    size_t code_at = 1, out = 2; /* a body is shorter than 254 bytes: no block is ever full */
    wire[0] = 0;
    for (size_t p = 0; p < sizeof parts / sizeof *parts; p++) {
        for (size_t i = 0; i < parts[p].length; i++) {
            uint8_t byte = parts[p].bytes[i];
            if (byte != 0) {
                wire[out++] = byte;
            } else {
                wire[code_at] = (uint8_t)(out - code_at);
                code_at = out++;
            }
        }
    }
    wire[code_at] = (uint8_t)(out - code_at);
    wire[out++] = 0;
    return out;
}

/* -- in ---------------------------------------------------------------------------------------------------------- */

static fb_decoded finish(uint8_t *body, size_t length, uint32_t schema_id, fb_frame *frame)
{
    size_t at = 0, size = 0;
    while (at < length) { /* in place: what is written lies behind what is read */
        size_t code = body[at];
        if (code == 0 || at + code > length) return FB_DECODE_BAD_COBS;
        for (size_t i = 1; i < code; i++) body[size++] = body[at + i];
        at += code;
        if (at < length) body[size++] = 0; /* code 255 cannot occur: it would not fit the buffer */
    }
    if (size < FB_HEADER_BYTES + FB_CRC_BYTES) return FB_DECODE_BAD_COBS;
    size -= FB_CRC_BYTES;
    uint32_t crc = fb_crc32(start_of_crc(body[3], schema_id), body, size);
    if (crc != (uint32_t)fb_get(body + size, FB_CRC_BYTES)) return FB_DECODE_BAD_CRC;
    if ((body[0] & ~(FB_ACK_REQ | FB_REPLY)) != MAJOR) return FB_DECODE_UNKNOWN;
    frame->flags = body[0] & (FB_ACK_REQ | FB_REPLY);
    frame->type = body[1];
    frame->seq = body[2];
    frame->session = body[3];
    frame->length = (uint8_t)(size - FB_HEADER_BYTES);
    for (size_t i = 0; i < frame->length; i++) frame->payload[i] = body[FB_HEADER_BYTES + i];
    return FB_DECODE_FRAME;
}

fb_decoded fb_decode(fb_decoder *decoder, uint8_t byte, uint32_t schema_id, fb_frame *frame)
{
    if (byte != 0) {
        if (decoder->length < FB_MAX_ENCODED) decoder->buffer[decoder->length++] = byte;
        else decoder->too_long = true;
        return FB_DECODE_MORE;
    }
    size_t length = decoder->length;
    bool too_long = decoder->too_long;
    decoder->length = 0;
    decoder->too_long = false;
    if (too_long) return FB_DECODE_OVERRUN;
    if (length == 0) return FB_DECODE_MORE;
    return finish(decoder->buffer, length, schema_id, frame);
}
