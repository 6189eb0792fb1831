-- Create a fine-tune without versions, unless the name is taken.
-- Given: name, owner, is_public, most (fine-tunes of an owner), fields (a flat list).
-- Returns {flat record, versions} of what has the name now; nothing where the owner has as many as it may.
local key, own = KEY.fine_tune(given.name), KEY.owner_fine_tunes(given.owner)
if redis.call('EXISTS', key) == 0 then
  if redis.call('SCARD', own) >= given.most then return false end
  redis.call('HSET', key, 'name', given.name, 'owner', given.owner, 'created_at', clock(), unpack(given.fields))
  redis.call('SADD', own, given.name)
  if given.is_public then redis.call('SADD', KEY.public_fine_tunes, given.name) end
end
return { redis.call('HGETALL', key), redis.call('HGETALL', KEY.fine_tune_versions(given.name)) }
