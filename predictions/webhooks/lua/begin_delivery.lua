-- Begin an attempt to deliver a webhook, and write it down.
-- Given: webhook_id, owner, host (the lane in which it waits), token (of the attempt), lost_seconds (after which an
-- attempt that has not ended falls due again), spacing_seconds (between two attempts at webhooks of one numbered event
-- of one prediction).
-- Returns {number of the attempt, tries of this schedule, prediction's id, event}; nothing where none is due.
local time, key = clock(), KEY.delivery(given.webhook_id)
local known = redis.call('HMGET', key, 'state', 'due', 'prediction', 'event', 'token', 'attempts', 'tries')
local state, due, id, event = unpack(known)
-- Repeated because its answer was lost.
if known[5] == given.token then return { tonumber(known[6]), tonumber(known[7]), id, event } end
if state ~= DELIVERY.pending then
  leave_lane(given.webhook_id, given.owner, given.host)
  return false
end
-- Another worker makes the attempt right now.
if tonumber(due) > tonumber(time) then return false end

if NUMBERED[event] then
  local record, field = KEY.prediction(id), FIELD.webhook_sent(event)
  local earliest = (redis.call('HGET', record, field) or 0) + given.spacing_seconds
  if tonumber(time) < earliest then
    fall_due(given.webhook_id, earliest)
    return false
  end
  redis.call('HSET', record, field, time)
end
fall_due(given.webhook_id, time + given.lost_seconds)
local number = redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HSET', key, FIELD.attempt_started(number), time, 'token', given.token)
return { number, redis.call('HINCRBY', key, 'tries', 1), id, event }
