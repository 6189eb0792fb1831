-- Announce a piece of audio that is stored. ARGV: id, attempt, chunk as JSON. Returns 1, or 0 where the lease is lost.
if not holds_lease(ARGV[1], ARGV[2]) then return 0 end
emit(ARGV[1], 'audio', ARGV[3])
return 1
