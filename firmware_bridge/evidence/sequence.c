#include "sequence.h"

#include <stdlib.h>
#include <string.h>

#include "parts.h"

#define HISTORY 16
#define LONGEST_JUMP_US 1800000000u /* the core must be called every 35 minutes */
#define ROUNDING 1                  /* mrad/s and mrad of rounding */

static const uint32_t fastest[] = FB_MAX_SPEED;
static const int32_t lowest[] = FB_MIN_POSITION, highest[] = FB_MAX_POSITION;

/* What a witness knows who sees only the line, the buttons and the outputs. */
typedef struct {
    bool live, armed, stopped, commanded;
    uint32_t live_until_us, commanded_until_us;
    bool follows; /* a trajectory, which has no deadline but its end */
    uint8_t session;
    int32_t output[FB_AXES], speed[FB_AXES];
} witness;

typedef struct {
    const uint8_t *bytes;
    size_t left;
    fb_core core;
    witness seen;
    outcome result;
    uint32_t now_us, ticked_us, boot_id, faults;
    uint8_t seq;
    fb_frame history[HISTORY];
    uint8_t said;
    bool held_back;
    fb_frame held;
} trial;

static uint8_t draw(trial *t)
{
    if (t->left == 0) return 0;
    t->left--;
    return *t->bytes++;
}

static uint32_t draw32(trial *t)
{
    uint32_t value = 0;
    for (int i = 0; i < 4; i++) value = value << 8 | draw(t);
    return value;
}

static void broken(trial *t, const char *property)
{
    if (t->result.broken == NULL) t->result.broken = property;
}

/* -- the properties ---------------------------------------------------------------------------------------------- */

static void let_time_pass(trial *t)
{
    witness *w = &t->seen;
    if (w->live && fb_passed(t->now_us, w->live_until_us)) w->live = false;
    if (w->commanded && !w->follows && fb_passed(t->now_us, w->commanded_until_us)) w->commanded = false;
    if (!w->live) w->armed = false;
}

static void check_state(trial *t)
{
    witness *w = &t->seen;
    if (t->core.state == FB_STATE_ACTIVE) {
        if (!w->live) broken(t, "active without a live lease");
        else if (w->stopped) broken(t, "active after a stop");
        else if (!w->armed) broken(t, "active without having been armed");
    } else {
        w->armed = false; /* what has stopped needs a new ARM */
    }
    for (int i = 0; i < FB_AXES; i++) {
        bool off = t->core.drive[i] == FB_DRIVE_OFF;
        if (w->stopped && !off) broken(t, "powered after a stop");
        if (w->stopped && fb_axis_mode[i] == FB_MODE_VELOCITY && t->core.output[i] != 0) broken(t, "turning after a stop");
        if (off && t->core.speed[i] != 0) broken(t, "moving without power");
        if (off) w->speed[i] = 0;
    }
    if (t->core.tx_length > FB_TX_BYTES) broken(t, "more to say than fits");
}

static uint32_t size_of(int64_t value)
{
    return (uint32_t)(value < 0 ? -value : value);
}

static void check_motion(trial *t, uint32_t elapsed_us)
{
    witness *w = &t->seen;
    bool may_move = w->armed && w->live && !w->stopped && w->commanded;
    for (int i = 0; i < FB_AXES; i++) {
        int32_t output = t->core.output[i];
        uint32_t speed = size_of(t->core.speed[i]), before = size_of(w->speed[i]);
        uint32_t gain = (uint32_t)((uint64_t)fb_compiled_acceleration[i] * elapsed_us / 1000000u);
        if (speed > fastest[i]) broken(t, "faster than its limit");
        if (size_of((int64_t)t->core.speed[i] - w->speed[i]) > gain + ROUNDING)
            broken(t, "more acceleration than its limit");
        if (!may_move && speed > (before > gain ? before - gain : 0)) broken(t, "moving without permission");
        if (fb_axis_mode[i] == FB_MODE_VELOCITY) {
            if (output != t->core.speed[i]) broken(t, "output and speed apart");
        } else {
            int32_t low = w->output[i] < lowest[i] ? w->output[i] : lowest[i];
            int32_t high = w->output[i] > highest[i] ? w->output[i] : highest[i];
            if (output < low || output > high) broken(t, "outside its range");
            uint32_t way = (uint32_t)((uint64_t)speed * elapsed_us / 1000000u);
            if (size_of((int64_t)output - w->output[i]) > way + ROUNDING) broken(t, "jumped");
        }
        if (speed != 0) t->result.moving++;
    }
}

/* A joint without power may have been turned by hand, to anywhere. */
static void check_power_up(trial *t, const uint8_t *drive_before)
{
    for (int i = 0; i < FB_AXES; i++) {
        if (fb_axis_mode[i] != FB_MODE_POSITION || drive_before[i] == FB_DRIVE_ON || t->core.drive[i] != FB_DRIVE_ON)
            continue;
        if (t->core.output[i] != t->core.position[i]) broken(t, "jumped at power-up");
        t->seen.output[i] = t->core.output[i];
    }
}

static void remember(trial *t)
{
    memcpy(t->seen.output, t->core.output, sizeof t->seen.output);
    memcpy(t->seen.speed, t->core.speed, sizeof t->seen.speed);
}

static void stop_seen(trial *t)
{
    if (t->seen.armed) t->result.stops++;
    t->seen.stopped = true;
    t->seen.armed = false;
}

/* A whole frame is about to be received: what may it change? */
static void witness_frame(trial *t, const fb_frame *frame)
{
    witness *w = &t->seen;
    const uint8_t *p = frame->payload;
    if (frame->type == FB_TYPE_ESTOP) stop_seen(t);
    if (frame->session == 0 || frame->session != w->session) return;
    if (frame->type == FB_TYPE_LEASE && frame->length == FB_SIZE_LEASE) {
        uint32_t until_us = (uint32_t)fb_get(p, 4);
        int32_t left_us = (int32_t)(until_us - t->now_us);
        if (left_us <= 0 || left_us > FB_HORIZON_US) return;
        if (left_us > (int32_t)FB_LEASE_CAP_US) until_us = t->now_us + FB_LEASE_CAP_US;
        if (!w->live || (int32_t)(until_us - w->live_until_us) > 0) w->live_until_us = until_us;
        w->live = true;
    } else if (frame->type == FB_TYPE_ARM && frame->length == FB_SIZE_ARM) {
        bool right = fb_get(p, 4) == fb_limits_crc(&t->core) && fb_get(p + 4, 4) == t->boot_id;
        if (!right || !w->live || w->stopped || t->core.state == FB_STATE_ACTIVE) return;
        w->armed = true;
        w->commanded = w->follows = false;
    } else if (frame->type == FB_TYPE_DISARM && frame->length == 0) {
        if (frame->seq == t->seq) w->armed = false; /* a repeated one is answered, but does nothing */
    } else if (frame->type == FB_TYPE_ESTOP_CLEAR && frame->length == FB_SIZE_ESTOP_CLEAR) {
        if (fb_get(p, 2) == t->core.challenge && t->core.challenge != 0 && t->faults == 0) w->stopped = false;
    } else if (frame->type == FB_TYPE_SET_NOW && frame->length == FB_SIZE_SET_NOW) {
        uint32_t until_us = (uint32_t)fb_get(p + FB_SIZE_SET_NOW - 4, 4);
        int32_t left_us = (int32_t)(until_us - t->now_us);
        if (left_us <= 0 || left_us > FB_HORIZON_US) return;
        if (!w->commanded || (int32_t)(until_us - w->commanded_until_us) > 0) w->commanded_until_us = until_us;
        w->commanded = true;
    } else if (frame->type == FB_TYPE_TRAJ_PUSH) {
        w->commanded = w->follows = true;
    }
}

/* -- what happens to the core ------------------------------------------------------------------------------------ */

static void hear(trial *t)
{
    fb_decoder decoder = {.length = 0};
    fb_frame frame;
    for (size_t i = 0; i < t->core.tx_length; i++) {
        if (fb_decode(&decoder, t->core.tx[i], FB_SCHEMA_ID, &frame) != FB_DECODE_FRAME) continue;
        if (frame.type != FB_TYPE_HELLO_ACK || frame.payload[2] == t->seen.session) continue;
        t->seen.session = frame.payload[2];
        t->seen.live = t->seen.armed = false; /* of another session */
    }
    fb_sent(&t->core, t->core.tx_length);
}

/* In a buffer of exactly its size, so that a sanitizer sees every byte too far. */
static void give(trial *t, const uint8_t *bytes, size_t length)
{
    uint8_t drive[FB_AXES], *exact = malloc(length);
    memcpy(exact, bytes, length);
    memcpy(drive, t->core.drive, sizeof drive);
    fb_receive(&t->core, exact, length, t->now_us);
    free(exact);
    check_power_up(t, drive);
    hear(t);
    check_state(t);
}

static void deliver(trial *t, const fb_frame *frame)
{
    uint8_t wire[FB_MAX_WIRE];
    size_t length = fb_encode(frame, FB_SCHEMA_ID, wire);
    let_time_pass(t);
    witness_frame(t, frame);
    give(t, wire, length);
}

static void damage(trial *t, const fb_frame *frame)
{
    uint8_t wire[FB_MAX_WIRE];
    size_t length = fb_encode(frame, FB_SCHEMA_ID, wire);
    let_time_pass(t);
    if (draw(t) & 1) length = 1 + draw(t) % (length - 2);
    else for (int k = 0; k < 3; k++) wire[1 + (draw(t) + k) % (length - 2)] ^= (uint8_t)(1u << k);
    give(t, wire, length);
}

/* The line: most frames come through. */
static void say(trial *t, fb_frame *frame, uint8_t type, uint8_t length)
{
    frame->type = type;
    frame->length = length;
    frame->seq = ++t->seq;
    frame->flags = t->seq % 3 == 0 ? FB_ACK_REQ : 0;
    t->history[t->said++ % HISTORY] = *frame;
    uint8_t fate = draw(t);
    if (fate >= 248) {
        damage(t, frame);
    } else if (fate >= 240) {
        t->held = *frame; /* comes later, behind others */
        t->held_back = true;
    } else if (fate < 232) {
        deliver(t, frame);
        if (fate >= 224) deliver(t, frame);
    }
}

static void tick(trial *t, uint32_t us)
{
    uint32_t elapsed_us;
    t->now_us += us;
    elapsed_us = t->now_us - t->ticked_us;
    t->ticked_us = t->now_us;
    if (elapsed_us > FB_MAX_TICK_US) elapsed_us = FB_MAX_TICK_US;
    let_time_pass(t);
    fb_tick(&t->core, t->now_us);
    hear(t);
    check_state(t);
    check_motion(t, elapsed_us);
    remember(t);
}

static void boot(trial *t, uint8_t cause)
{
    fb_identity identity = {.boot_id = ++t->boot_id * 2654435761u, .reset_cause = cause};
    t->boot_id = identity.boot_id;
    memset(&t->core, 0xA5, sizeof t->core); /* fb_init may not count on zeros */
    fb_init(&t->core, &identity, t->now_us);
    memset(&t->seen, 0, sizeof t->seen);
    t->ticked_us = t->now_us;
    t->faults = 0;
    t->seen.stopped = cause == 1;
    remember(t);
}

/* -- what a host says -------------------------------------------------------------------------------------------- */

/* Mostly soon, at times now, past, far too late or anything. */
static uint32_t deadline(trial *t)
{
    uint8_t how = draw(t);
    if (how < 200) return t->now_us + 1000u * (1 + how * 2u);
    if (how < 220) return t->now_us + (uint32_t)how - 210u;
    if (how < 240) return t->now_us + 100000u * (how - 219u);
    return t->now_us + draw32(t);
}

static uint32_t target(trial *t)
{
    uint8_t how = draw(t);
    return how < 220 ? (uint32_t)((how - 110) * 30) : draw32(t);
}

static fb_frame in_session(trial *t)
{
    fb_frame frame = {.session = t->seen.session};
    if (draw(t) == 255) frame.session = draw(t);
    return frame;
}

static void say_hello(trial *t, uint32_t nonce)
{
    fb_frame frame = {.session = 0};
    fb_put(frame.payload, FB_MAGIC, 4);
    frame.payload[4] = frame.payload[5] = FB_VERSION;
    fb_put(frame.payload + 6, nonce, 4);
    say(t, &frame, FB_TYPE_HELLO, FB_SIZE_HELLO);
}

static void say_lease(trial *t, uint8_t engaged)
{
    fb_frame frame = in_session(t);
    fb_put(frame.payload, deadline(t), 4);
    frame.payload[5] = engaged;
    say(t, &frame, FB_TYPE_LEASE, FB_SIZE_LEASE);
}

static void say_arm(trial *t)
{
    fb_frame frame = in_session(t);
    uint32_t crc = fb_limits_crc(&t->core), boot_id = t->boot_id;
    uint8_t wrong = draw(t);
    if (wrong == 254) crc ^= 1u;
    if (wrong == 255) boot_id ^= 1u;
    fb_put(frame.payload, crc, 4);
    fb_put(frame.payload + 4, boot_id, 4);
    say(t, &frame, FB_TYPE_ARM, FB_SIZE_ARM);
}

static void say_set_now(trial *t)
{
    fb_frame frame = in_session(t);
    uint8_t mask = 0, mode = draw(t) & 1 ? FB_MODE_VELOCITY : FB_MODE_POSITION;
    for (int i = 0; i < FB_AXES; i++) {
        if (fb_axis_mode[i] == mode) mask |= (uint8_t)(1 << i);
    }
    frame.payload[0] = mode;
    frame.payload[1] = draw(t) < 240 ? mask : draw(t);
    for (int i = 0; i < FB_AXES; i++) fb_put(frame.payload + 2 + 4 * i, target(t), 4);
    fb_put(frame.payload + FB_SIZE_SET_NOW - 4, deadline(t), 4);
    say(t, &frame, FB_TYPE_SET_NOW, (uint8_t)(FB_SIZE_SET_NOW - (draw(t) == 255)));
}

static void say_trajectory(trial *t)
{
    fb_frame frame = in_session(t);
    uint8_t at = FB_SIZE_TRAJ_PUSH;
    uint32_t at_us = t->now_us + 1000u * draw(t);
    fb_put(frame.payload, at_us, 4);
    for (uint8_t points = 1 + draw(t) % 4; points > 0 && at + FB_SIZE_POINT <= FB_MAX_PAYLOAD; points--) {
        at_us += 1000u * draw(t);
        fb_put(frame.payload + at, at_us, 4);
        for (int k = 0; k < 2 * FB_AXES; k++) fb_put(frame.payload + at + 4 + 4 * k, target(t), 4);
        at = (uint8_t)(at + FB_SIZE_POINT);
    }
    say(t, &frame, FB_TYPE_TRAJ_PUSH, at);
}

static void say_limits(trial *t)
{
    fb_frame frame = in_session(t);
    uint8_t axis = (uint8_t)(draw(t) % (FB_AXES + 1)), part = draw(t), i = axis % FB_AXES;
    frame.payload[0] = axis;
    fb_put(frame.payload + 1, part == 255 ? draw32(t) : fastest[i] * part / 250u, 4);
    fb_put(frame.payload + 5, fb_compiled_acceleration[i] * (uint64_t)draw(t) / 200u, 4);
    fb_put(frame.payload + 9, (uint64_t)(lowest[i] * (int64_t)part / 250), 4);
    fb_put(frame.payload + 13, (uint64_t)(highest[i] * (int64_t)(part == 253 ? 300 : part) / 250), 4);
    say(t, &frame, FB_TYPE_LIMITS_SET, FB_SIZE_LIMITS_SET);
}

static void say_clear(trial *t)
{
    fb_frame frame = in_session(t);
    fb_put(frame.payload, t->core.challenge + (draw(t) >= 240), 2);
    say(t, &frame, FB_TYPE_ESTOP_CLEAR, FB_SIZE_ESTOP_CLEAR);
}

static void say_anything(trial *t)
{
    fb_frame frame = in_session(t);
    uint8_t type = draw(t), length = draw(t) % 24;
    if (type % 4 != 0) type = FB_TYPE_PARAM_GET + type % 32;
    const fb_handler *known = fb_find_handler(type);
    if (known != NULL && known->length != FB_ANY_LENGTH && draw(t) < 200) length = known->length;
    for (uint8_t k = 0; k < length; k++) frame.payload[k] = draw(t) < 128 ? 0 : draw(t) % 32;
    say(t, &frame, type, length);
}

static void become_active(trial *t)
{
    say_hello(t, 1);
    say_lease(t, 1);
    say_arm(t);
    say_lease(t, 1);
}

/* What a boot loader or another program says. */
static void noise(trial *t)
{
    uint8_t bytes[255], length = (uint8_t)(1 + draw(t) % 255), start = draw(t);
    for (uint8_t k = 0; k < length; k++) bytes[k] = start | 1;
    let_time_pass(t);
    give(t, bytes, length);
}

static void measure(trial *t)
{
    uint8_t how = draw(t);
    for (int i = 0; i < FB_AXES; i++) {
        t->core.position[i] = how < 240 ? t->core.output[i] : (int16_t)draw32(t);
        t->core.current[i] = how < 240 ? 0 : (int16_t)draw32(t);
    }
    t->core.supply_mv = how < 250 ? 12000 : 100;
}

static void step(trial *t)
{
    fb_frame frame = {.session = 0};
    uint8_t what = draw(t);
    switch (what % 32) {
    case 0: say_hello(t, draw(t) % 4); break;
    case 1: say_arm(t); break;
    case 2: say_limits(t); break;
    case 3: say_clear(t); break;
    case 4: measure(t); break;
    case 5: say_anything(t); break;
    case 6: frame = in_session(t); say(t, &frame, FB_TYPE_DISARM, 0); break;
    case 7: frame.session = draw(t); say(t, &frame, FB_TYPE_ESTOP, what & 32 ? 1 : 0); break;
    case 8: if (what & 64) { stop_seen(t); fb_estop(&t->core); check_state(t); } else noise(t); break;
    case 9:
        t->faults = what & 64 ? 0 : draw(t) & (FB_FAULT_DRIVER_LOST | FB_FAULT_OVER_CURRENT);
        if (t->faults != 0) stop_seen(t);
        fb_set_faults(&t->core, t->faults);
        check_state(t);
        break;
    case 10: if (what & 64) boot(t, what & 128 ? 1 : 0); break;
    case 11: if (t->said > 0) deliver(t, &t->history[draw(t) % (t->said < HISTORY ? t->said : HISTORY)]); break;
    case 12: if (t->held_back) deliver(t, &t->held); t->held_back = false; break;
    case 13: tick(t, draw32(t) % (what & 64 ? LONGEST_JUMP_US : 3000000u)); break;
    case 14: say_lease(t, 0); break;
    case 15: case 16: become_active(t); break;
    case 17: case 18: say_trajectory(t); break;
    case 19: case 20: case 21: case 22: say_set_now(t); break;
    case 23: case 24: case 25: say_lease(t, 1); break;
    default: for (int k = draw(t) % 32; k >= 0; k--) tick(t, what & 64 ? 1000u : 1u + draw(t) * 40u); break;
    }
}

outcome run_sequence(const uint8_t *bytes, size_t length)
{
    static trial t;
    memset(&t, 0, sizeof t);
    t.bytes = bytes;
    t.left = length;
    t.now_us = draw32(&t);
    if (t.now_us & 1) t.now_us = 0u - (t.now_us >> 12); /* within a second of the wrap */
    boot(&t, 0);
    tick(&t, 1000);
    while (t.left > 0 && t.result.broken == NULL) step(&t);
    return t.result;
}
