/* Frames on a serial line: COBS between zero bytes, with a CRC-32 that covers everything. */
#ifndef FB_FRAME_H
#define FB_FRAME_H

#include "messages.h"

#define FB_HEADER_BYTES 4
#define FB_CRC_BYTES 4
#define FB_MAX_PAYLOAD (FB_MAX_BODY - FB_HEADER_BYTES - FB_CRC_BYTES)
#define FB_MAX_ENCODED (FB_MAX_BODY + 1)
#define FB_MAX_WIRE (FB_MAX_ENCODED + 2)

typedef struct {
    uint8_t flags; /* FB_ACK_REQ, FB_REPLY */
    uint8_t type;
    uint8_t seq;
    uint8_t session; /* 0 outside a session */
    uint8_t length;
    uint8_t payload[FB_MAX_PAYLOAD];
} fb_frame;

typedef enum {
    FB_DECODE_MORE, /* no frame ends here */
    FB_DECODE_FRAME,
    FB_DECODE_BAD_CRC,
    FB_DECODE_BAD_COBS,
    FB_DECODE_OVERRUN,
    FB_DECODE_UNKNOWN
} fb_decoded;

typedef struct {
    uint8_t buffer[FB_MAX_ENCODED];
    uint16_t length;
    bool too_long;
} fb_decoder;

/* Little endian, up to 8 bytes. */
void fb_put(uint8_t *at, uint64_t value, uint8_t bytes);
uint64_t fb_get(const uint8_t *at, uint8_t bytes);

/* CRC-32/ISO-HDLC; crc is the value so far, 0 to begin. */
uint32_t fb_crc32(uint32_t crc, const uint8_t *data, size_t length);

/* Bytes on the wire of a frame with so much payload. */
size_t fb_wire_size(uint8_t length);

/* Writes at most FB_MAX_WIRE bytes and returns how many. frame->length must not exceed FB_MAX_PAYLOAD. */
size_t fb_encode(const fb_frame *frame, uint32_t schema_id, uint8_t *wire);

/* Takes in one byte; *frame is written only with FB_DECODE_FRAME. */
fb_decoded fb_decode(fb_decoder *decoder, uint8_t byte, uint32_t schema_id, fb_frame *frame);

#endif
