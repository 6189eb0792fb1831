-- Change what is said of a fine-tune. Given: name, owner, is_public, visibility, description.
-- Returns {flat record, versions}; nothing where there is no such fine-tune of the owner.
local key = KEY.fine_tune(given.name)
if redis.call('HGET', key, 'owner') ~= given.owner then return false end
redis.call('HSET', key, 'visibility', given.visibility, 'description', given.description)
redis.call(given.is_public and 'SADD' or 'SREM', KEY.public_fine_tunes, given.name)
return { redis.call('HGETALL', key), redis.call('HGETALL', KEY.fine_tune_versions(given.name)) }
