module LockdowndCookbook
  # What the attributes of a node, and the items of its data bag, ask for: settings, people and grants. Mistakes in their
  # shape are refused with the attribute's name; what the values mean, the daemon judges.
  class Attributes
    ROOT = "node['lockdownd']".freeze
    CONFIG = "#{ROOT}['config']".freeze
    KNOWN = %w(stack install config people grants data_bag data_bag_items).freeze
    INSTALL = %w(source checksum version repository).freeze
    PERSON = %w(keys accounts operator).freeze
    GRANT = %w(person account expires_at starts_at from reason).freeze
    ITEM = %w(id person keys accounts operator stacks grants).freeze
    ITEM_GRANT = (GRANT - %w(person) + %w(stacks)).freeze
    # What chef itself adds to an item.
    ITEM_OWN = %w(chef_type data_bag).freeze
    EVERY_STACK = '*'.freeze

    # What a kept node still says from earlier runs: a warning for each of them that names people or grants.
    #
    # `-j` and `knife node edit` set attributes of the level normal, which a node object keeps; Chef unites the next ones with
    # them, lists included. So a key or a person that was taken out of the JSON is still there.
    def self.kept(normal)
      given = normal.to_h['lockdownd'].to_h
      %w(people grants config).select { |name| given[name] && !given[name].to_h.empty? }.map do |name|
        "#{ROOT}['#{name}'] has attributes of the level normal (chef-client -j, knife node edit), which the node keeps: what is " \
          "taken out there stays here. Set it in a policy, role or cookbook, and delete it from the node's normal attributes"
      end
    end

    # `attributes` is node['lockdownd'] as plain hashes; `items` are the data bag's, as hashes.
    def initialize(attributes, items = [])
      @attributes = known(attributes, KNOWN, ROOT)
      @items = items
      @stack = named(attributes['stack'])
      nameless = attributes['data_bag_items'] && !attributes['data_bag']
      refuse("#{ROOT}['data_bag']", 'is missing: data_bag_items names items of it') if nameless
    end

    # The properties of lockdownd_install that are set.
    def install
      known(hash(@attributes['install'], "#{ROOT}['install']"), INSTALL, "#{ROOT}['install']").compact
    end

    # What goes into config.toml.
    def settings
      settings = RosterKeys.listed(hash(@attributes['config'], CONFIG))
      Toml.toml_document(settings, CONFIG)
      settings
    end

    # Hashes with `name`, `keys`, `accounts` and `origin`.
    def people
      entries('people').map { |name, given| person(name, given, "#{ROOT}['people']['#{name}']") } +
        items_here.map { |item, origin| person(item['person'] || item['id'], item.slice(*PERSON), origin) }
    end

    # Hashes with `label`, `origin` and the properties of lockdownd_grant.
    def grants
      entries('grants').map { |label, given| grant(label, given, GRANT, "#{ROOT}['grants']['#{label}']") } +
        items_here.flat_map { |item, origin| item_grants(item, origin) }
    end

    private

    def named(stack)
      return stack unless stack.respond_to?(:to_h) && !stack.nil?

      refuse("#{ROOT}['stack']", "is no string: it names the stack; what stands in [stack] is #{CONFIG}['stack']")
    end

    def entries(kind)
      hash(@attributes[kind], "#{ROOT}['#{kind}']").select { |_, given| given }
    end

    def person(name, given, origin)
      given = known(hash(given, origin), PERSON, origin)
      { 'name' => text(name, "the name in #{origin}"), 'origin' => origin,
        'keys' => list(given['keys'], "#{origin}['keys']"), 'accounts' => list(given['accounts'], "#{origin}['accounts']"),
        'operator' => flag(given['operator'], "#{origin}['operator']") }
    end

    def grant(label, given, keys, origin)
      given = known(hash(given, origin), keys, origin)
      %w(person account expires_at).each { |key| refuse("#{origin}['#{key}']", 'is missing') if given[key].nil? }
      texts = %w(person account expires_at starts_at reason).map { |key| [key, given[key]] }.to_h.compact
      texts.each { |key, value| text(value, "#{origin}['#{key}']") }
      from = given['from'].nil? ? {} : { 'from' => list(given['from'], "#{origin}['from']") }
      texts.merge(from).merge('label' => label.to_s, 'origin' => origin)
    end

    # The items that are for this stack, each with what it is called.
    def items_here
      @items_here ||= @items.filter_map do |item|
        origin = "data bag item #{item['id']}"
        known(item.reject { |key, _| ITEM_OWN.include?(key.to_s) }, ITEM, origin)
        refuse("#{origin}['stacks']", "is missing: name the stacks that it is for, or [\"#{EVERY_STACK}\"]") unless item['stacks']
        [item, origin] if here?(item['stacks'], "#{origin}['stacks']")
      end
    end

    def item_grants(item, origin)
      given = item['grants'] || []
      refuse("#{origin}['grants']", 'is no list') unless given.is_a?(Array)
      given.each_with_index.filter_map do |one, n|
        name = "#{origin}['grants'][#{n}]"
        one = known(hash(one, name), ITEM_GRANT, name)
        next unless one['stacks'].nil? || here?(one['stacks'], "#{name}['stacks']")

        person = { 'person' => item['person'] || item['id'] }
        grant("#{item['id']} #{n}", one.reject { |key, _| key == 'stacks' }.merge(person), GRANT, name)
      end
    end

    def here?(stacks, name)
      refuse("#{ROOT}['stack']", 'is missing: the items of the data bag are chosen by it') if @stack.nil?
      list(stacks, name).any? { |stack| [EVERY_STACK, @stack].include?(stack) }
    end

    def known(given, keys, name)
      unknown = given.keys.map(&:to_s) - keys
      refuse("#{name}['#{unknown.first}']", "is not known; known here: #{keys.join(', ')}") unless unknown.empty?
      given
    end

    def hash(value, name)
      return {} if value.nil?

      value.respond_to?(:to_h) && !value.is_a?(Array) ? value.to_h.transform_keys(&:to_s) : refuse(name, 'is no hash')
    end

    # Nothing is an empty list, one string a list of one.
    def list(value, name)
      value = [value].compact unless value.is_a?(Array)
      value.each_with_index.map { |entry, n| text(entry, "#{name}[#{n}]") }
    end

    def flag(value, name)
      refuse(name, "is a #{value.class}: write true or false") unless [nil, true, false].include?(value)
      value == true
    end

    def text(value, name)
      refuse(name, "is a #{value.class}: write a string") unless value.is_a?(String) || value.is_a?(Symbol)
      Toml.toml_text(value.to_s, name)
      value.to_s
    end

    def refuse(name, why)
      raise Refused, "#{name} #{why}"
    end
  end
end
