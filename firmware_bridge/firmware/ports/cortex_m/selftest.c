/* The core tests itself on the processor that will run it: in virtual time, without a serial line, for the rover.
 *
 * vectors.h comes from tests/firmware_bridge/vectors.json. Ends with exit code 0, or 1 at the first thing that is wrong.
 */
#include "core.h"
#include "semihosting.h"
#include "vectors.h"

#define BOOT_ID 0xB0071D42u
#define LEASE_US 100000u

static fb_core core;
static uint32_t now_us, limits_crc;
static uint8_t session, seq;
static fb_frame last[2]; /* of the answers: the one before the last, the last */

static void print_number(uint32_t number)
{
    char digits[11] = {0};
    int at = 10;
    do {
        digits[--at] = (char)('0' + number % 10);
        number /= 10;
    } while (number != 0);
    print(digits + at);
}

static void check_at(bool holds, uint32_t line, const char *what)
{
    if (holds) return;
    print("selftest.c:");
    print_number(line);
    print(": ");
    print(what);
    print(" does not hold\n");
    leave(1);
}
#define CHECK(condition) check_at((condition), __LINE__, #condition)

/* -- frames ------------------------------------------------------------------------------------------------------ */

static void test_good_frames(void)
{
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        const good_frame *v = &good[i];
        fb_frame frame = {.flags = v->flags, .type = v->type, .seq = v->seq, .session = v->session, .length = v->length};
        for (int k = 0; k < v->length; k++) frame.payload[k] = v->payload[k];
        uint8_t wire[FB_MAX_WIRE];
        size_t size = fb_encode(&frame, VECTORS_SCHEMA_ID, wire);
        CHECK(size == v->wire_length);
        for (size_t k = 0; k < size; k++) CHECK(wire[k] == v->wire[k]);

        fb_decoder decoder = {.length = 0};
        fb_frame read = {.length = 0};
        int frames = 0;
        for (size_t k = 0; k < size; k++) frames += fb_decode(&decoder, v->wire[k], VECTORS_SCHEMA_ID, &read) == FB_DECODE_FRAME;
        CHECK(frames == 1);
        CHECK(read.flags == v->flags && read.type == v->type && read.seq == v->seq && read.session == v->session);
        CHECK(read.length == v->length);
        for (int k = 0; k < v->length; k++) CHECK(read.payload[k] == v->payload[k]);
    }
}

static void test_refused_frames(void)
{
    for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
        fb_decoder decoder = {.length = 0};
        fb_frame read;
        int found = 0;
        for (size_t k = 0; k < refused[i].wire_length; k++) {
            fb_decoded what = fb_decode(&decoder, refused[i].wire[k], VECTORS_SCHEMA_ID, &read);
            if (what == FB_DECODE_MORE) continue;
            CHECK(what == refused[i].expected);
            found++;
        }
        CHECK(found == 1);
    }
}

/* -- a host ------------------------------------------------------------------------------------------------------ */

static void read_answers(void)
{
    fb_decoder decoder = {.length = 0};
    fb_frame frame;
    for (uint16_t k = 0; k < core.tx_length; k++) {
        if (fb_decode(&decoder, core.tx[k], FB_SCHEMA_ID, &frame) != FB_DECODE_FRAME) continue;
        last[0] = last[1];
        last[1] = frame;
    }
    fb_sent(&core, core.tx_length);
}

/* Says something that asks for an answer, and returns the code of the ACK. */
static uint8_t say(uint8_t type, uint8_t in_session, const uint8_t *payload, uint8_t length)
{
    fb_frame frame = {.flags = FB_ACK_REQ, .type = type, .seq = seq++, .session = in_session, .length = length};
    uint8_t wire[FB_MAX_WIRE];
    for (int k = 0; k < length; k++) frame.payload[k] = payload[k];
    fb_receive(&core, wire, fb_encode(&frame, FB_SCHEMA_ID, wire), now_us);
    read_answers();
    if (last[1].type != FB_TYPE_ACK) return 0xFF;
    return last[1].payload[2];
}

static void tick(uint32_t ms)
{
    for (; ms > 0; ms--) {
        now_us += 1000;
        fb_tick(&core, now_us);
        read_answers();
    }
}

static void start(uint32_t at_us)
{
    fb_identity identity = {.boot_id = BOOT_ID};
    for (size_t k = 0; k < sizeof core; k++) ((uint8_t *)&core)[k] = 0xA5;
    now_us = at_us;
    fb_init(&core, &identity, now_us);
    CHECK(core.state == FB_STATE_BOOT);
}

static void hello(void)
{
    uint8_t payload[FB_SIZE_HELLO];
    fb_put(payload, FB_MAGIC, 4);
    payload[4] = payload[5] = FB_VERSION;
    fb_put(payload + 6, now_us ^ 0x5EED5EEDu, 4);
    say(FB_TYPE_HELLO, 0, payload, sizeof payload);
    CHECK(last[1].type == FB_TYPE_HELLO_ACK && last[1].length == FB_SIZE_HELLO_ACK);
    session = last[1].payload[2];
    CHECK(fb_get(last[1].payload + 8, 4) == BOOT_ID);
    limits_crc = (uint32_t)fb_get(last[1].payload + 16, 4);
}

static uint8_t lease(uint32_t expire_us)
{
    uint8_t payload[FB_SIZE_LEASE] = {0};
    fb_put(payload, expire_us, 4);
    payload[5] = 1;
    return say(FB_TYPE_LEASE, session, payload, sizeof payload);
}

static uint8_t arm(void)
{
    uint8_t payload[FB_SIZE_ARM];
    fb_put(payload, limits_crc, 4);
    fb_put(payload + 4, BOOT_ID, 4);
    return say(FB_TYPE_ARM, session, payload, sizeof payload);
}

static uint8_t command(int32_t speed, uint32_t valid_until_us)
{
    uint8_t payload[FB_SIZE_SET_NOW] = {FB_MODE_VELOCITY, 3};
    fb_put(payload + 2, (uint32_t)speed, 4);
    fb_put(payload + 6, (uint32_t)-speed, 4);
    fb_put(payload + FB_SIZE_SET_NOW - 4, valid_until_us, 4);
    return say(FB_TYPE_SET_NOW, session, payload, sizeof payload);
}

static void bring_to(uint8_t state)
{
    start(0);
    if (state == FB_STATE_BOOT) return;
    tick(1);
    CHECK(core.state == FB_STATE_IDLE);
    if (state == FB_STATE_IDLE) return;
    if (state == FB_STATE_FAULT) {
        fb_set_faults(&core, FB_FAULT_DRIVER_LOST);
        return;
    }
    hello();
    if (state == FB_STATE_LINKED) return;
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && arm() == FB_CODE_OK);
    CHECK(command(5000, now_us + LEASE_US) == FB_CODE_OK);
    tick(20);
    if (state == FB_STATE_ACTIVE) return;
    if (state == FB_STATE_ESTOP) {
        fb_estop(&core);
        return;
    }
    tick(80);
    if (state == FB_STATE_SAFE_STOP) return;
    tick(50);
}

/* -- the rules --------------------------------------------------------------------------------------------------- */

static void test_arming(void)
{
    bring_to(FB_STATE_LINKED);
    CHECK(core.state == FB_STATE_LINKED && core.drive[0] == FB_DRIVE_OFF);
    CHECK(arm() == FB_CODE_NO_LEASE);
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK);
    limits_crc ^= 1;
    CHECK(arm() == FB_CODE_WRONG_LIMITS);
    limits_crc ^= 1;
    CHECK(command(5000, now_us + LEASE_US) == FB_CODE_BAD_STATE);
    CHECK(arm() == FB_CODE_OK);
    CHECK(core.state == FB_STATE_ACTIVE && core.drive[0] == FB_DRIVE_ON && core.drive[1] == FB_DRIVE_ON);
    CHECK(say(FB_TYPE_DISARM, session, NULL, 0) == FB_CODE_OK);
    tick(1);
    CHECK(core.state == FB_STATE_LINKED && core.drive[0] == FB_DRIVE_BRAKE);
}

static void test_lease_expiry(void)
{
    bring_to(FB_STATE_ACTIVE);
    CHECK(core.output[0] == 5000 && core.output[1] == -5000);
    uint32_t expire_us = now_us + 30000;
    CHECK(lease(expire_us) == FB_CODE_OK && command(5000, now_us + LEASE_US) == FB_CODE_OK);
    tick(29);
    CHECK(core.state == FB_STATE_ACTIVE);
    tick(1);
    CHECK(now_us == expire_us && core.state == FB_STATE_SAFE_STOP && core.stop_cause == FB_STOP_CAUSE_LEASE_EXPIRED);
    CHECK(core.output[0] == 4600);
    tick(12);
    CHECK(core.state == FB_STATE_SAFE && core.output[0] == 0 && core.drive[0] == FB_DRIVE_BRAKE);
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && command(5000, now_us + LEASE_US) == FB_CODE_BAD_STATE);
    tick(5);
    CHECK(core.state == FB_STATE_SAFE && core.output[0] == 0);
}

static void test_estop_in_every_state(void)
{
    static const uint8_t states[] = {FB_STATE_BOOT, FB_STATE_IDLE, FB_STATE_LINKED, FB_STATE_ACTIVE,
                                     FB_STATE_SAFE_STOP, FB_STATE_SAFE, FB_STATE_ESTOP, FB_STATE_FAULT};
    for (size_t i = 0; i < 2 * sizeof states; i++) {
        uint8_t state = states[i / 2], reason = 1, challenge[FB_SIZE_ESTOP_CLEAR];
        bring_to(state);
        CHECK(core.state == state);
        if (i % 2 == 0) say(FB_TYPE_ESTOP, 0, &reason, 1);
        else fb_estop(&core);
        CHECK(core.state == FB_STATE_ESTOP && core.challenge != 0);
        for (int k = 0; k < FB_AXES; k++) CHECK(core.drive[k] == FB_DRIVE_OFF && core.output[k] == 0);
        tick(2);
        fb_set_faults(&core, 0);
        hello();
        CHECK(core.state == FB_STATE_ESTOP);
        CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && arm() == FB_CODE_LATCHED);
        fb_put(challenge, core.challenge + 1u, 2);
        CHECK(say(FB_TYPE_ESTOP_CLEAR, session, challenge, sizeof challenge) == FB_CODE_WRONG_CHALLENGE);
        fb_put(challenge, core.challenge, 2);
        CHECK(say(FB_TYPE_ESTOP_CLEAR, session, challenge, sizeof challenge) == FB_CODE_OK);
        CHECK(core.state == FB_STATE_IDLE && core.drive[0] == FB_DRIVE_OFF);
    }
}

static uint8_t limit(uint32_t speed, uint32_t acceleration)
{
    uint8_t payload[FB_SIZE_LIMITS_SET] = {0};
    fb_put(payload + 1, speed, 4);
    fb_put(payload + 5, acceleration, 4);
    return say(FB_TYPE_LIMITS_SET, session, payload, sizeof payload);
}

static void test_limits(void)
{
    static const uint32_t compiled_speed[FB_AXES] = FB_MAX_SPEED, compiled_acceleration[FB_AXES] = FB_MAX_ACCELERATION;
    uint32_t speed = compiled_speed[0], acceleration = compiled_acceleration[0];
    bring_to(FB_STATE_LINKED);
    CHECK(limit(speed + 1, acceleration) == FB_CODE_BAD_VALUE && limit(speed, acceleration + 1) == FB_CODE_BAD_VALUE);
    CHECK(limit(1000, 50000) == FB_CODE_OK);
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && arm() == FB_CODE_WRONG_LIMITS);
    tick(1); /* another nonce: a new session is told the new limits */
    hello();
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK);
    CHECK(arm() == FB_CODE_OK && command(INT32_MAX, now_us + LEASE_US) == FB_CODE_OK);
    int32_t before[2] = {0, 0};
    for (int ms = 0; ms < 80; ms++) {
        tick(1);
        CHECK(core.output[0] <= 1000 && core.output[0] - before[0] <= 50);
        CHECK(core.output[1] >= -(int32_t)speed && before[1] - core.output[1] <= (int32_t)(acceleration / 1000));
        before[0] = core.output[0];
        before[1] = core.output[1];
    }
    CHECK(core.output[0] == 1000 && core.output[1] == -(int32_t)speed && core.stats.clamps == 1);
}

/* -- time -------------------------------------------------------------------------------------------------------- */

/* Steps of 1 ms through 2^32 us with a live host; then the host falls silent so that its lease ends beyond the wrap. */
static void test_time_wraps(uint32_t offset_us)
{
    start(0u - 400000u + offset_us);
    tick(1);
    hello();
    CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && arm() == FB_CODE_OK);
    for (int ms = 0; ms < 800; ms++) {
        if (ms % 20 == 0)
            CHECK(lease(now_us + LEASE_US) == FB_CODE_OK && command(5000, now_us + LEASE_US) == FB_CODE_OK);
        tick(1);
        CHECK(core.state == FB_STATE_ACTIVE && (ms < 20 || core.output[0] == 5000));
    }
    uint8_t asked[FB_SIZE_TIME_REQ] = {0};
    say(FB_TYPE_TIME_REQ, session, asked, sizeof asked);
    CHECK(last[0].type == FB_TYPE_TIME_RSP && fb_get(last[0].payload + 8, 8) == (1ull << 32 | now_us));

    start(0u - 70000u + offset_us);
    tick(1);
    hello();
    uint32_t expire_us = now_us + LEASE_US;
    CHECK(expire_us < now_us && lease(expire_us) == FB_CODE_OK && arm() == FB_CODE_OK);
    CHECK(command(5000, expire_us + LEASE_US) == FB_CODE_OK);
    tick(99);
    CHECK(core.state == FB_STATE_ACTIVE && core.output[0] == 5000);
    tick(1);
    CHECK(core.state == FB_STATE_SAFE_STOP && core.stop_cause == FB_STOP_CAUSE_LEASE_EXPIRED);
}

int main(void)
{
    test_good_frames();
    test_refused_frames();
    test_arming();
    test_lease_expiry();
    test_estop_in_every_state();
    test_limits();
    test_time_wraps(0);
    test_time_wraps(1);
    test_time_wraps(999);
    print("all tests of the core passed\n");
    return 0;
}
