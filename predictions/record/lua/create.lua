-- Create a prediction and enqueue it: both or neither.
-- ARGV: id, owner, digest, idempotency key ('' for none), seconds to remember it, max_queued, template, queue, 1 where a
-- prediction that was offered to an identical request will do, field, value, ...
-- Returns {outcome: created | replayed | conflict | mismatch | full, flat record, queue position or -1}.
local id, owner, digest, idempotency, remember = ARGV[1], ARGV[2], ARGV[3], ARGV[4], ARGV[5]
local max_queued, template, queue = tonumber(ARGV[6]), ARGV[7], ARGV[8]
local key = 'musicgen:prediction:' .. id
local memory = 'musicgen:idempotency:' .. owner .. ':' .. idempotency

local function answer(outcome, known_id)
  return { outcome, redis.call('HGETALL', 'musicgen:prediction:' .. known_id), position(known_id) }
end

if idempotency ~= '' then
  local known = redis.call('HMGET', memory, 'id', 'digest')
  -- A remembered prediction may have been deleted since.
  if known[1] and redis.call('EXISTS', 'musicgen:prediction:' .. known[1]) == 1 then
    return answer(known[2] == digest and 'replayed' or 'mismatch', known[1])
  end
end
if ARGV[9] == '1' then
  local offered = redis.call('LPOP', 'musicgen:offered:' .. owner .. ':' .. digest)
  if offered and redis.call('EXISTS', 'musicgen:prediction:' .. offered) == 1 then return answer('replayed', offered) end
end
if redis.call('EXISTS', key) == 1 then
  local known = redis.call('HMGET', key, 'owner', 'digest')
  return answer(known[1] == owner and known[2] == digest and 'replayed' or 'conflict', id)
end
if redis.call('ZCARD', 'musicgen:queued:' .. queue) >= max_queued then return answer('full', id) end

local time = clock()
redis.call('HSET', key, 'id', id, 'owner', owner, 'digest', digest, 'status', 'starting', 'attempt', 0,
  'created_at', time, 'queue', queue, unpack(ARGV, 10))
redis.call('SADD', 'musicgen:queues', queue)
redis.call('ZADD', 'musicgen:owner:' .. owner, time, id)
if idempotency ~= '' then
  redis.call('HSET', memory, 'id', id, 'digest', digest)
  redis.call('EXPIRE', memory, remember)
end
enqueue(id, template, 'LPUSH')
emit(id, 'status', 'starting')
return answer('created', id)
