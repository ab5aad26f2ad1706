/* Frames in and out: who may say what, what was answered before, and what is reported when. */
#include "parts.h"

#define ANSWER_LIFE_US 1000000u
#define EVENT_EVERY_US 200000u

/* -- out --------------------------------------------------------------------------------------------------------- */

void fb_send(fb_core *c, uint8_t type, uint8_t session, uint8_t flags, fb_frame *frame, uint8_t length, uint16_t room)
{
    frame->type = type;
    frame->session = session;
    frame->flags = flags;
    frame->length = length;
    frame->seq = c->tx_seq++;
    if (c->tx_length + fb_wire_size(length) + room > FB_TX_BYTES) c->stats.tx_dropped++;
    else c->tx_length = (uint16_t)(c->tx_length + fb_encode(frame, FB_SCHEMA_ID, c->tx + c->tx_length));
}

static void send_ack(fb_core *c, const fb_frame *asked, uint8_t session, uint8_t code)
{
    fb_frame frame;
    fbm_ack ack = {.answered_seq = asked->seq, .answered_type = asked->type, .code = code};
    fbm_ack_pack(&ack, frame.payload);
    fb_send(c, FB_TYPE_ACK, session, FB_REPLY, &frame, FB_SIZE_ACK, FB_ANSWER_ROOM);
}

static void send_state(fb_core *c)
{
    fb_frame frame;
    fbm_state m = {
        .t_us = c->now_us,
        .state = c->state,
        .stop_cause = c->stop_cause,
        .faults = c->faults,
        .last_seq = c->command_seq,
        .clamped = c->clamped,
        .applied_us = c->applied_us,
        .supply_mv = c->supply_mv,
        .temperature_dc = c->temperature_dc,
        .challenge = c->challenge,
    };
#if FB_TRAJECTORY_POINTS > 0
    if (c->queued > 0) m.queue_ms = (uint16_t)((c->queue[c->queued - 1].t_us - c->now_us) / 1000u);
#endif
    for (int i = 0; i < FB_AXES; i++) {
        if (c->drive[i] == FB_DRIVE_ON) m.powered |= (uint8_t)(1 << i);
        m.position[i] = c->position[i];
        m.velocity[i] = c->velocity[i];
        m.current[i] = c->current[i];
    }
    fbm_state_pack(&m, frame.payload);
    fb_send(c, FB_TYPE_STATE, c->session, 0, &frame, FB_SIZE_STATE, FB_STATE_ROOM);
    c->reported_state = c->state;
}

static void send_stats(fb_core *c)
{
    fb_frame frame;
    fbm_stats_pack(&c->stats, frame.payload);
    fb_send(c, FB_TYPE_STATS, c->session, 0, &frame, FB_SIZE_STATS, FB_STATE_ROOM);
}

static void send_event(fb_core *c)
{
    fb_frame frame;
    fbm_event_pack(&c->event[0], frame.payload);
    fb_send(c, FB_TYPE_EVENT, c->session, 0, &frame, FB_SIZE_EVENT, FB_EVENT_ROOM);
}

void fb_record_event(fb_core *c)
{
    c->event_number++;
    if (c->events == FB_EVENTS) {
        c->stats.events_lost++;
        return;
    }
    fbm_event m = {
        .number = c->event_number, .cause = c->stop_cause, .state = c->state, .faults = c->faults, .at_us = c->now_us};
    c->event_stream.period_us = EVENT_EVERY_US;
    if (c->events == 0) c->event_stream.sent_us = c->now_us - EVENT_EVERY_US; /* due at once */
    c->event[c->events++] = m;
}

static bool due(fb_stream *stream, uint32_t now_us)
{
    if (stream->period_us == 0 || now_us - stream->sent_us < stream->period_us) return false;
    stream->sent_us += stream->period_us;
    if (now_us - stream->sent_us >= stream->period_us) stream->sent_us = now_us; /* behind: do not catch up in a burst */
    return true;
}

void fb_send_periodic(fb_core *c)
{
    if (c->session != 0 && c->events > 0 && due(&c->event_stream, c->now_us)) send_event(c);
    bool wanted = due(&c->state_stream, c->now_us);
    if (wanted || (c->state_stream.period_us != 0 && c->state != c->reported_state)) send_state(c);
    if (due(&c->stats_stream, c->now_us)) send_stats(c);
}

/* -- in ---------------------------------------------------------------------------------------------------------- */

static fb_answer *remembered(fb_core *c, const fb_frame *frame)
{
    for (int i = 0; i < FB_ANSWERS; i++) {
        fb_answer *a = &c->answers[i];
        if (a->valid && c->now_us - a->at_us >= ANSWER_LIFE_US) a->valid = false;
        if (a->valid && a->seq == frame->seq && a->type == frame->type) return a;
    }
    return NULL;
}

static void remember(fb_core *c, const fb_frame *frame, uint8_t code)
{
    fb_answer *a = &c->answers[c->next_answer];
    c->next_answer = (uint8_t)((c->next_answer + 1) % FB_ANSWERS);
    a->seq = frame->seq;
    a->type = frame->type;
    a->code = code;
    a->at_us = c->now_us;
    a->valid = true;
}

static void count_gap(fb_core *c, uint8_t seq)
{
    uint8_t ahead = (uint8_t)(seq - c->last_seq);
    if (c->seen_seq && (ahead == 0 || ahead >= 128)) return; /* a repeated frame */
    if (c->seen_seq) c->stats.gaps += ahead - 1u;
    c->last_seq = seq;
    c->seen_seq = true;
}

static uint8_t act(fb_core *c, const fb_handler *handler, const fb_frame *frame)
{
    if (handler->length != FB_ANY_LENGTH && handler->length != frame->length) return FB_CODE_BAD_PAYLOAD;
    return handler->act(c, frame);
}

void fb_handle(fb_core *c, const fb_frame *frame)
{
    bool wants_ack = (frame->flags & FB_ACK_REQ) != 0, stops = frame->type == FB_TYPE_ESTOP;
    const fb_handler *found = fb_find_handler(frame->type);
    if ((frame->flags & FB_REPLY) != 0 || frame->type >= 0x80) { /* our own words, echoed by the line */
        c->stats.unknown++;
        return;
    }
    if (c->state == FB_STATE_BOOT && !stops) {
        c->stats.stale++;
        return;
    }
    bool foreign = frame->session == 0 ? found != NULL && !found->sessionless : frame->session != c->session;
    if (foreign && !stops) {
        c->stats.stale++;
        if (wants_ack) send_ack(c, frame, 0, FB_CODE_NO_SESSION);
        return;
    }
    if (found == NULL) {
        c->stats.unknown++;
        if (wants_ack) send_ack(c, frame, frame->session, FB_CODE_UNKNOWN_TYPE);
        return;
    }
    c->stats.frames++;
    if (frame->type == FB_TYPE_HELLO) {
        uint8_t code = act(c, found, frame);
        if (code != FB_CODE_OK) send_ack(c, frame, 0, code);
        return;
    }
    if (!foreign) count_gap(c, frame->seq);
    const fb_answer *answer = wants_ack && !stops ? remembered(c, frame) : NULL; /* a stop is never taken for a repeat */
    uint8_t code = answer != NULL ? answer->code : act(c, found, frame);
    if (wants_ack && answer == NULL && !stops) remember(c, frame, code);
    if (wants_ack) send_ack(c, frame, frame->session, code);
}
