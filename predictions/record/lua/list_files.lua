-- An owner's uploaded files, newest first. ARGV: owner, limit. Returns flat records.
local files = {}
for _, id in ipairs(redis.call('ZREVRANGE', 'musicgen:owner-files:' .. ARGV[1], 0, ARGV[2] - 1)) do
  files[#files + 1] = redis.call('HGETALL', 'musicgen:file:' .. id)
end
return files
