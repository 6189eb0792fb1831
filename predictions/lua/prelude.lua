-- Prepended to every script: the clock, the message templates, and the transitions that several scripts make.
-- The clock is Redis's own, so that leases do not depend on the clocks of the workers agreeing.
--
-- What is kept, and where:
--   musicgen:prediction:{id}            hash    the record; the truth
--   musicgen:events:{id}                stream  its events, for whoever follows it
--   musicgen:owner:{owner}              zset    an owner's predictions by creation time
--   musicgen:queues                     set     the queues that generate, one a model; {queue} below is one of them
--   musicgen:queued:{queue}             zset    ids that wait, by creation time
--   musicgen:leases                     zset    ids that run, by the time their lease ends
--   musicgen:running:{queue}            set     those of one queue
--   musicgen:ended                      zset    ids that have ended, by the time they did
--   musicgen:ended-channel              pubsub  "{status} {id}" of what ends: a hint, never the truth
--   musicgen:idempotency:{owner}:{key}  hash    id and body digest of an Idempotency-Key
--   musicgen:webhooks                   zset    "{id}:{event}" of undelivered webhooks, by the next attempt's time
--   musicgen:webhook:{id}:{event}       hash    attempts and last outcome of one webhook
--   musicgen:file:{id}                  hash    an uploaded file's record
--   musicgen:files                      zset    uploaded files by upload time
--   musicgen:cards                      hash    of each queue, the model card that its workers announced last
--   musicgen:workers:{queue}            zset    live workers, by the time their last sign of life expires
--   {queue}, webhooks                   lists   Celery's queues

local TERMINAL = { succeeded = true, failed = true, canceled = true }

local function clock()
  local time = redis.call('TIME')
  return string.format('%d.%06d', time[1], time[2])
end

-- A Celery message: `template` with the placeholders @ID@ and @TAG@ filled in.
local function message(template, id, tag)
  local filled = string.gsub(template, '@ID@', id)
  filled = string.gsub(filled, '@TAG@', tag)
  return filled
end

local function emit(id, name, data)
  redis.call('XADD', 'musicgen:events:' .. id, 'MAXLEN', '~', 1000, '*', 'event', name, 'data', data)
end

-- The queue of a prediction's model: its workers take from it alone.
local function queue_of(id)
  return redis.call('HGET', 'musicgen:prediction:' .. id, 'queue') or 'generation'
end

-- How many of its queue wait before a prediction; -1 where it does not wait.
local function position(id)
  return redis.call('ZRANK', 'musicgen:queued:' .. queue_of(id), id) or -1
end

local function generation_message(id, template)
  local enqueues = redis.call('HGET', 'musicgen:prediction:' .. id, 'enqueues')
  local filled = string.gsub(message(template, id, id .. ':' .. enqueues), '@QUEUE@', queue_of(id))
  return filled
end

-- Put a prediction into the queue; the message is a hint, `musicgen:queued:` the truth. `push` is LPUSH for the end of
-- the queue, RPUSH for its front: where a prediction comes back, it keeps the place that its creation gave it.
local function enqueue(id, template, push)
  local key, queue = 'musicgen:prediction:' .. id, queue_of(id)
  redis.call('HINCRBY', key, 'enqueues', 1)
  redis.call('HSET', key, 'enqueued_at', clock())
  redis.call('ZADD', 'musicgen:queued:' .. queue, redis.call('HGET', key, 'created_at'), id)
  redis.call(push, queue, generation_message(id, template))
end

-- Hold a prediction's lease for so many seconds from now, or drop it.
local function lease(id, seconds)
  redis.call('ZADD', 'musicgen:leases', clock() + seconds, id)
  redis.call('SADD', 'musicgen:running:' .. queue_of(id), id)
end

local function drop_lease(id)
  redis.call('ZREM', 'musicgen:leases', id)
  redis.call('SREM', 'musicgen:running:' .. queue_of(id), id)
end

-- Owe the client a webhook. It stays owed in `musicgen:webhooks` until it is delivered or given up.
local function owe_webhook(id, event, template)
  local wanted = redis.call('HGET', 'musicgen:prediction:' .. id, 'webhook_events')
  if not wanted or not string.find(wanted, event, 1, true) then return end
  local member = id .. ':' .. event
  -- The message below makes the first attempt; should it get lost, the attempt falls due again a minute later.
  redis.call('ZADD', 'musicgen:webhooks', clock() + 60, member)
  redis.call('LPUSH', 'webhooks', message(template, member, member .. ':1'))
end

-- End a prediction. `fields` is a flat list of further field, value pairs of the record.
local function finish(id, status, fields, webhook_template)
  local key = 'musicgen:prediction:' .. id
  local time = clock()
  redis.call('HSET', key, 'status', status, 'completed_at', time, unpack(fields))
  redis.call('ZREM', 'musicgen:queued:' .. queue_of(id), id)
  drop_lease(id)
  redis.call('ZADD', 'musicgen:ended', time, id)
  emit(id, 'status', status)
  owe_webhook(id, 'completed', webhook_template)
  redis.call('PUBLISH', 'musicgen:ended-channel', status .. ' ' .. id)
end

-- Whether the caller holds the lease: its attempt is the record's, and the prediction still runs.
local function holds_lease(id, attempt)
  local record = redis.call('HMGET', 'musicgen:prediction:' .. id, 'status', 'attempt')
  return record[1] == 'processing' and record[2] == attempt
end
