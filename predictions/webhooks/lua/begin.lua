-- Begin an attempt to deliver a webhook, and write it down. An attempt that has not ended after `lost_seconds` falls due
-- again; two attempts at numbered events of one prediction are `spacing_seconds` apart.
-- Returns {number of the attempt, tries of this schedule, prediction's id, event}; nothing where none is due.
local delivery, time = given.id, clock()
local key = KEY.delivery(delivery)
local known = redis.call('HMGET', key, 'state', 'due', 'prediction', 'event')
local due, id, event = known[2], known[3], known[4]
if known[1] ~= DELIVERY.pending then
  redis.call('ZREM', KEY.webhooks, delivery)
  return false
end
-- Another worker makes it right now, or the message is a late double.
if tonumber(due) > tonumber(time) then return false end

local function fall_due(at)
  redis.call('HSET', key, 'due', at)
  redis.call('ZADD', KEY.webhooks, at, delivery)
end

if NUMBERED[event] then
  local record, field = KEY.prediction(id), 'webhook_sent:' .. event
  local earliest = (redis.call('HGET', record, field) or 0) + given.spacing_seconds
  if tonumber(time) < earliest then
    fall_due(earliest)
    return false
  end
  redis.call('HSET', record, field, time)
end
fall_due(time + given.lost_seconds)
local number = redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HSET', key, 'started:' .. number, time)
return { number, redis.call('HINCRBY', key, 'tries', 1), id, event }
