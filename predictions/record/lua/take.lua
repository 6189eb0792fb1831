-- Take the prediction that has waited longest, and the lease on it.
-- Given: queue, token (that of the new lease), lease_seconds, beside (ids that the same worker works on already), held
-- (the tokens of its leases on them).
-- Returns {flat record, -1}; nothing where none waits, or where the first one may not be taken now.
local function answer(id) return { redis.call('HGETALL', KEY.prediction(id)), -1 } end

local before = chosen_before(given.token)
if before then return holds_lease(before, given.token) and answer(before) end

-- A suspect is tried alone: nothing is taken beside it, and it waits until its worker has nothing else to do.
for _, id in ipairs(given.beside) do
  if is_suspect(id) then return false end
end
local mine = {}
for _, token in ipairs(given.held) do mine[token] = true end
local id
for _, waiting in ipairs(redis.call('ZRANGE', KEY.queued(given.queue), 0, #given.held)) do
  -- One that this worker holds waits only because its lease ran out; its next renewal takes it up again.
  if not id and not mine[redis.call('HGET', KEY.prediction(waiting), 'lease_token')] then id = waiting end
end
if not id then return false end
local alone = #given.beside == 0
if is_suspect(id) and not alone then return false end

local key = KEY.prediction(id)
local attempt = redis.call('HINCRBY', key, 'attempt', 1)
redis.call('HSET', key, 'status', STATUS.processing, 'lease_token', given.token)
redis.call('HSETNX', key, 'started_at', clock())
redis.call('HDEL', key, 'progress', 'logs', 'live_chunks', 'alone')
if alone then redis.call('HSET', key, 'alone', 1) end
for _, other in ipairs(given.beside) do redis.call('HDEL', KEY.prediction(other), 'alone') end
redis.call('ZREM', KEY.queued(given.queue), id)
lease(id, given.lease_seconds)
emit(id, EVENT.status, STATUS.processing)
if attempt == 1 then owe_webhook(id, WEBHOOK.start) end
remember_choice(given.token, id)
return answer(id)
