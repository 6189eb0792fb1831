-- Create a prediction and enqueue it: both or neither.
-- Given: id, owner, digest, idempotency_key ('' for none), remember_seconds, max_queued, max_stored_bytes (-1 for no limit),
-- queue, take_offered (whether a prediction that was offered to an identical request will do), fields (a flat list).
-- Returns {outcome, flat record, queue position or -1}.
local id, owner, digest, queue = given.id, given.owner, given.digest, given.queue
local key, memory = KEY.prediction(id), KEY.idempotency(owner, given.idempotency_key)

local function exists(prediction) return redis.call('EXISTS', KEY.prediction(prediction)) == 1 end

local function answer(outcome, prediction)
  return { outcome, redis.call('HGETALL', KEY.prediction(prediction)), position(prediction) }
end

if given.idempotency_key ~= '' then
  local known = redis.call('HMGET', memory, 'id', 'digest')
  -- The prediction may have been deleted since.
  if known[1] and exists(known[1]) then
    return answer(known[2] == digest and OUTCOME.replayed or OUTCOME.mismatch, known[1])
  end
end
if given.take_offered then
  local offered = chosen_before(id) or redis.call('LPOP', KEY.offered(owner, digest))
  if offered and exists(offered) then
    remember_choice(id, offered)
    return answer(OUTCOME.replayed, offered)
  end
end
if exists(id) then
  local known = redis.call('HMGET', key, 'owner', 'digest')
  return answer(known[1] == owner and known[2] == digest and OUTCOME.replayed or OUTCOME.conflict, id)
end
if redis.call('ZCARD', KEY.queued(queue)) >= given.max_queued then return answer(OUTCOME.full, id) end
if given.max_stored_bytes >= 0 and stored_bytes(owner) >= given.max_stored_bytes then
  return answer(OUTCOME.storage_full, id)
end

local time = clock()
redis.call('HSET', key, 'id', id, 'owner', owner, 'digest', digest, 'status', STATUS.starting, 'attempt', 0,
  'created_at', time, 'queue', queue, unpack(given.fields))
redis.call('SADD', KEY.queues, queue)
redis.call('ZADD', KEY.owner(owner), time, id)
if given.idempotency_key ~= '' then
  redis.call('HSET', memory, 'id', id, 'digest', digest)
  redis.call('EXPIRE', memory, given.remember_seconds)
end
enqueue(id, 'LPUSH')
emit(id, EVENT.status, STATUS.starting)
return answer(OUTCOME.created, id)
