-- Begin an attempt to deliver a webhook, and write it down. ARGV: webhook-id, seconds after which the attempt, should
-- it not have ended, falls due again; seconds between two attempts at numbered events of one prediction.
-- Returns {number of the attempt, tries of this schedule, prediction's id, event}; nothing where none is due.
local delivery, time = ARGV[1], clock()
local key = 'musicgen:delivery:' .. delivery
local known = redis.call('HMGET', key, 'state', 'due', 'prediction', 'event')
local due, id, event = known[2], known[3], known[4]
if known[1] ~= 'pending' then
  redis.call('ZREM', 'musicgen:webhooks', delivery)
  return false
end
-- Another worker makes it right now, or the message is a late double.
if tonumber(due) > tonumber(time) then return false end

local function fall_due(at)
  redis.call('HSET', key, 'due', at)
  redis.call('ZADD', 'musicgen:webhooks', at, delivery)
end

if NUMBERED[event] then
  local record, field = 'musicgen:prediction:' .. id, 'webhook_sent:' .. event
  local earliest = (redis.call('HGET', record, field) or 0) + ARGV[3]
  if tonumber(time) < earliest then
    fall_due(earliest)
    return false
  end
  redis.call('HSET', record, field, time)
end
fall_due(time + ARGV[2])
local number = redis.call('HINCRBY', key, 'attempts', 1)
redis.call('HSET', key, 'started:' .. number, time)
return { number, redis.call('HINCRBY', key, 'tries', 1), id, event }
