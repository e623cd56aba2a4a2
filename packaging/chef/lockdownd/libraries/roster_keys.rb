module LockdowndCookbook
  # Who may sign rosters, by name: `config.stack.roster.key` as PERSON => KEY or [KEY, ...]. The attributes of a policy, a role and
  # a cookbook unite such a hash entry by entry, and false takes somebody out again; a list would be united blindly.
  module RosterKeys
    NAME = "node['lockdownd']['config']['stack']['roster']['key']".freeze

    module_function

    # The settings with a list, as the configuration has it. Whatever else stands there is left for the daemon to judge.
    def listed(settings)
      stack = settings['stack'].is_a?(Hash) ? settings['stack'] : {}
      roster = stack['roster'].is_a?(Hash) ? stack['roster'] : {}
      return settings unless roster['key'].is_a?(Hash)

      list = roster['key'].select { |_, keys| keys }.flat_map { |person, keys| entries(person.to_s, keys) }
      settings.merge('stack' => stack.merge('roster' => roster.merge('key' => list)))
    end

    def entries(person, keys)
      keys = [keys] unless keys.is_a?(Array)
      keys.each_with_index.map do |key, n|
        raise Refused, "#{NAME}['#{person}'][#{n}] is a #{key.class}: write a string" unless key.is_a?(String)

        { 'person' => person, 'key' => key }
      end
    end
  end
end
