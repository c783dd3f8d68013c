"""Tables of real entities for the NonExist questions, and of morphemes for invented ones; data only, hence the length.

Each line is an entity, `name = keys = keys`. A table of answers says what a key means, `key: answer; other answer`.
The first answer of the first key is the canonical one. An indented line continues the line above. `nonexist.py` reads
the tables and invents a counterpart for each entity.
"""

# --- medicine ----------------------------------------------------------------------------------------

CONDITIONS = """
hypertension: high blood pressure; hypertension; blood pressure
angina: angina; chest pain; coronary artery disease; coronary heart disease; heart disease
heart failure: heart failure; congestive heart failure; heart disease; cardiac failure
arrhythmia: arrhythmia; arrhythmias; irregular heartbeat; atrial fibrillation; heart rhythm; tachycardia
edema: edema; oedema; fluid retention; swelling; water retention
cholesterol: high cholesterol; cholesterol; hypercholesterolemia; hyperlipidemia; dyslipidemia; hyperlipidaemia
clots: blood clots; blood clot; thrombosis; deep vein thrombosis; stroke; pulmonary embolism; heart attack; clotting
diabetes: type 2 diabetes; diabetes; diabetes mellitus; high blood sugar; blood sugar; hyperglycemia
obesity: obesity; overweight; weight loss; excess weight; weight management
ulcer: acid reflux; GERD; gastroesophageal reflux; ulcer; ulcers; peptic ulcer; heartburn; stomach acid; indigestion
nausea: nausea; vomiting; nausea and vomiting; sickness
bacteria: bacterial infections; bacterial infection; bacteria; infection; infections; pneumonia
urinary: urinary tract infection; urinary tract infections; UTI; UTIs
tuberculosis: tuberculosis; TB
acne: acne; severe acne
rosacea: rosacea
fungus: fungal infections; fungal infection; fungus; mycosis
yeast: yeast infection; yeast infections; candidiasis; thrush; vaginal candidiasis
skin fungus: athlete's foot; ringworm; nail fungus; onychomycosis; jock itch
herpes: herpes; herpes simplex; shingles; chickenpox; cold sores; viral infection; genital herpes
influenza: influenza; flu; the flu; viral infection
hiv: HIV; AIDS; HIV infection; HIV/AIDS
hepatitis b: hepatitis B; chronic hepatitis B; hepatitis
hepatitis c: hepatitis C; chronic hepatitis C; hepatitis
covid: COVID-19; COVID; coronavirus; SARS-CoV-2
malaria: malaria
worms: parasitic infections; parasitic infection; parasitic worms; parasites; parasite; worms; worm infections;
  roundworm; helminthiasis
river blindness: river blindness; onchocerciasis; scabies; head lice; strongyloidiasis
tapeworm: tapeworm; tapeworms; neurocysticercosis; hydatid disease
depression: depression; major depressive disorder; depressive disorder; major depression
anxiety: anxiety; anxiety disorder; anxiety disorders; panic disorder; panic attacks; generalized anxiety disorder
insomnia: insomnia; sleeplessness; sleep problems; sleep disorder; sleep
ocd: obsessive-compulsive disorder; OCD
schizophrenia: schizophrenia; psychosis; psychotic disorders
adhd: ADHD; attention deficit hyperactivity disorder; attention deficit disorder; narcolepsy
epilepsy: epilepsy; seizures; seizure; convulsions; partial seizures
bipolar: bipolar disorder; mania; manic episodes
neuropathy: neuropathic pain; nerve pain; neuralgia; fibromyalgia
parkinson: Parkinson's disease; Parkinson's; Parkinson disease; parkinsonism
restless legs: restless legs syndrome; restless legs
alzheimer: Alzheimer's disease; Alzheimer's; dementia; Alzheimer disease
migraine: migraine; migraines; headache; headaches
pain: pain; pain relief; severe pain; chronic pain
headache: headache; headaches
fever: fever
arthritis: arthritis; osteoarthritis; rheumatoid arthritis; inflammation; joint pain
rheumatoid: rheumatoid arthritis; arthritis; joint pain
gout: gout; hyperuricemia; uric acid
asthma: asthma; COPD; chronic obstructive pulmonary disease; bronchospasm; breathing problems
allergy: allergies; allergy; hay fever; allergic rhinitis; hives; urticaria; seasonal allergies
osteoporosis: osteoporosis; bone loss; Paget's disease
low thyroid: hypothyroidism; underactive thyroid; thyroid; thyroid disease; thyroid hormone deficiency
high thyroid: hyperthyroidism; overactive thyroid; thyroid; Graves' disease
breast cancer: breast cancer; cancer
prostate cancer: prostate cancer; cancer
lung cancer: lung cancer; cancer; non-small cell lung cancer
leukemia: leukemia; chronic myeloid leukemia; cancer; leukaemia; CML
cancer: cancer; tumors; tumours; ovarian cancer; breast cancer; lung cancer
impotence: erectile dysfunction; impotence; ED; pulmonary arterial hypertension
prostate: enlarged prostate; benign prostatic hyperplasia; BPH; prostate enlargement; prostate
baldness: hair loss; baldness; male pattern baldness
sclerosis: multiple sclerosis; MS
lupus: lupus; systemic lupus erythematosus
psoriasis: psoriasis
glaucoma: glaucoma; intraocular pressure; eye pressure; ocular hypertension
spasm: muscle spasms; spasticity; muscle spasm; muscle stiffness
opioids: opioid addiction; opioid dependence; addiction; heroin addiction; drug addiction; opioid use disorder
alcohol: alcoholism; alcohol dependence; alcohol addiction; alcohol use disorder; alcohol abuse
smoking: smoking; nicotine addiction; smoking cessation; tobacco addiction; nicotine dependence
inflammation: inflammation; inflammatory conditions; arthritis; allergic reactions; autoimmune diseases; asthma
bladder: overactive bladder; urinary incontinence; incontinence
rejection: organ rejection; transplant rejection; organ transplant rejection; organ transplant
diarrhea: diarrhea; diarrhoea; diarrheal disease; acute diarrhea
tremor: tremor; essential tremor
anesthesia: local anesthesia; anesthesia; anaesthesia; numbness; local anaesthesia
"""

DRUG_CLASSES = """
beta blocker: beta blocker; beta blockers; beta-adrenergic blocker; beta-adrenergic antagonist; beta-adrenoceptor
  antagonist; antihypertensive
ace inhibitor: ACE inhibitor; ACE inhibitors; angiotensin-converting enzyme inhibitor; antihypertensive
sartan: angiotensin receptor blocker; angiotensin II receptor blocker; ARB; angiotensin II receptor antagonist;
  antihypertensive; sartan
calcium: calcium channel blocker; calcium channel blockers; calcium antagonist; antihypertensive; dihydropyridine
statin: statin; statins; HMG-CoA reductase inhibitor; lipid-lowering; cholesterol-lowering
diuretic: diuretic; diuretics; water pill
loop: loop diuretic
thiazide: thiazide; thiazide-like diuretic; antihypertensive
antiarrhythmic: antiarrhythmic; antiarrhythmics; anti-arrhythmic
glycoside: cardiac glycoside; glycoside; cardiac glycosides
channel: potassium channel blocker; class III antiarrhythmic
anticoagulant: anticoagulant; anticoagulants; blood thinner; blood thinners; antithrombotic
factor xa: factor Xa inhibitor; direct oral anticoagulant
vitamin k: vitamin K antagonist
thrombin: thrombin inhibitor; direct thrombin inhibitor
heparin: heparin; low molecular weight heparin
antiplatelet: antiplatelet; antiplatelets; platelet inhibitor; platelet aggregation inhibitor; P2Y12 inhibitor; blood
  thinner; antithrombotic
ppi: proton pump inhibitor; proton pump inhibitors; PPI; antacid; acid reducer
h2: H2 blocker; H2 blockers; histamine H2 receptor antagonist; H2 receptor antagonist; H2 antagonist; antacid; acid
  reducer; antihistamine
antiemetic: antiemetic; antiemetics; anti-emetic; 5-HT3 antagonist; 5-HT3 receptor antagonist; serotonin antagonist;
  anti-nausea
penicillin: antibiotic; antibiotics; penicillin; penicillins; beta-lactam; antibacterial
antibiotic: antibiotic; antibiotics; antibacterial; antimicrobial
macrolide: macrolide; macrolides
quinolone: fluoroquinolone; quinolone; fluoroquinolones
cephalosporin: cephalosporin; cephalosporins; beta-lactam
tetracycline: tetracycline; tetracyclines
glycopeptide: glycopeptide
oxazolidinone: oxazolidinone
lincosamide: lincosamide
antituberculosis: antituberculosis; anti-tuberculosis; antitubercular; antimycobacterial; rifamycin
antifungal: antifungal; antifungals; anti-fungal; antimycotic
azole: azole; triazole; imidazole; azoles
allylamine: allylamine
antiviral: antiviral; antivirals; anti-viral
antiretroviral: antiretroviral; antiretrovirals
nucleoside: nucleoside analogue; nucleoside analog; reverse transcriptase inhibitor; nucleoside reverse transcriptase
  inhibitor; NRTI; nucleotide analogue; nucleotide analog
non-nucleoside: non-nucleoside reverse transcriptase inhibitor; NNRTI; reverse transcriptase inhibitor
integrase: integrase inhibitor; integrase strand transfer inhibitor
protease: protease inhibitor
neuraminidase: neuraminidase inhibitor
polymerase: polymerase inhibitor; nucleotide analogue; nucleotide analog; NS5B inhibitor; direct-acting antiviral
antimalarial: antimalarial; antimalarials; anti-malarial; antiprotozoal; antiparasitic
antiparasitic: antiparasitic; anthelmintic; anti-parasitic; antihelminthic; antiparasitics; anthelminthic
antidiabetic: antidiabetic; anti-diabetic; hypoglycemic; oral hypoglycemic; antihyperglycemic
biguanide: biguanide
sulfonylurea: sulfonylurea; sulphonylurea; sulfonylureas
dpp-4: DPP-4 inhibitor; dipeptidyl peptidase-4 inhibitor; gliptin
sglt2: SGLT2 inhibitor; sodium-glucose cotransporter 2 inhibitor; gliflozin
glp-1: GLP-1 agonist; GLP-1 receptor agonist; glucagon-like peptide-1 receptor agonist; GLP-1
glitazone: thiazolidinedione; glitazone
antidepressant: antidepressant; antidepressants
ssri: SSRI; selective serotonin reuptake inhibitor; serotonin reuptake inhibitor; SSRIs
snri: SNRI; serotonin-norepinephrine reuptake inhibitor; serotonin and norepinephrine reuptake inhibitor
tetracyclic: tetracyclic; noradrenergic and specific serotonergic; NaSSA
antipsychotic: antipsychotic; antipsychotics; neuroleptic
atypical: atypical antipsychotic; second-generation antipsychotic
typical: typical antipsychotic; first-generation antipsychotic; butyrophenone
benzodiazepine: benzodiazepine; benzodiazepines; sedative; tranquilizer; anxiolytic; hypnotic; anti-anxiety
hypnotic: hypnotic; sedative; sedative-hypnotic; sleeping pill; sleep aid; nonbenzodiazepine; Z-drug
anticonvulsant: anticonvulsant; anticonvulsants; antiepileptic; antiepileptics; anti-epileptic; anti-seizure;
  antiseizure; mood stabilizer
dopaminergic: dopaminergic; antiparkinson; anti-Parkinson; antiparkinsonian
dopamine agonist: dopamine agonist; dopamine agonists
precursor: dopamine precursor; amino acid
mao: MAO inhibitor; MAO-B inhibitor; monoamine oxidase inhibitor; MAOI
cholinesterase: cholinesterase inhibitor; acetylcholinesterase inhibitor; anticholinesterase; cholinergic
nmda: NMDA antagonist; NMDA receptor antagonist
triptan: triptan; triptans; serotonin agonist; serotonin receptor agonist; 5-HT1 agonist; antimigraine; anti-migraine
nsaid: NSAID; NSAIDs; nonsteroidal anti-inflammatory drug; non-steroidal anti-inflammatory drug; anti-inflammatory;
  painkiller; analgesic
cox-2: COX-2 inhibitor; COX-2 selective inhibitor; coxib
opioid: opioid; opioids; opiate; narcotic; painkiller; analgesic; opioid analgesic
opioid antagonist: opioid antagonist; opioid receptor antagonist; opiate antagonist; narcotic antagonist
xanthine: xanthine oxidase inhibitor; antigout; anti-gout; uricosuric
antigout: antigout; anti-gout; anti-inflammatory; alkaloid; antimitotic
bronchodilator: bronchodilator; bronchodilators; beta agonist; beta-2 agonist; beta2 agonist; beta-2 adrenergic
  agonist
leukotriene: leukotriene receptor antagonist; leukotriene antagonist; leukotriene inhibitor; leukotriene modifier;
  anti-inflammatory
steroid: corticosteroid; corticosteroids; steroid; steroids; glucocorticoid; anti-inflammatory
antihistamine: antihistamine; antihistamines; H1 antagonist; H1 blocker; anti-histamine
bisphosphonate: bisphosphonate; bisphosphonates
thyroid hormone: thyroid hormone; hormone; synthetic thyroid hormone; thyroxine
antithyroid: antithyroid; anti-thyroid; thionamide; thioamide
kinase: tyrosine kinase inhibitor; kinase inhibitor; anticancer; antineoplastic; chemotherapy; targeted therapy; TKI
anticancer: anticancer; antineoplastic; hormone therapy
aromatase: aromatase inhibitor
serm: selective estrogen receptor modulator; SERM; antiestrogen; anti-estrogen
antiandrogen: antiandrogen; anti-androgen
chemotherapy: chemotherapy; antineoplastic; anticancer; cytotoxic
taxane: taxane; taxanes; mitotic inhibitor
antimetabolite: antimetabolite; DMARD; disease-modifying antirheumatic drug; immunosuppressant; folate antagonist;
  folic acid antagonist
antibody: monoclonal antibody; monoclonal antibodies; biologic; antibody; immunotherapy
anti-tnf: TNF inhibitor; anti-TNF; TNF blocker; DMARD; immunosuppressant; disease-modifying antirheumatic drug
pde5: PDE5 inhibitor; phosphodiesterase inhibitor; PDE-5 inhibitor; phosphodiesterase type 5 inhibitor; vasodilator
alpha: alpha blocker; alpha-1 blocker; alpha-blocker; alpha-adrenergic antagonist; alpha-adrenergic blocker
reductase: 5-alpha reductase inhibitor; 5-alpha-reductase inhibitor; antiandrogen
immunosuppressant: immunosuppressant; immunosuppressants; immunosuppressive; immunomodulator
calcineurin: calcineurin inhibitor; macrolide
prostaglandin: prostaglandin analogue; prostaglandin analog; prostaglandin
carbonic: carbonic anhydrase inhibitor
relaxant: muscle relaxant; muscle relaxants; antispasmodic; GABA agonist
stimulant: stimulant; stimulants; central nervous system stimulant; CNS stimulant; psychostimulant
retinoid: retinoid; retinoids; vitamin A derivative
antimuscarinic: antimuscarinic; anticholinergic; muscarinic antagonist
anesthetic: local anesthetic; anesthetic; anaesthetic; local anaesthetic
"""

DRUGS = """
propranolol = hypertension, angina, arrhythmia, migraine, anxiety, tremor = beta blocker
atenolol = hypertension, angina, arrhythmia = beta blocker
metoprolol = hypertension, angina, heart failure, arrhythmia = beta blocker
bisoprolol = hypertension, angina, heart failure = beta blocker
carvedilol = heart failure, hypertension = beta blocker, alpha
nebivolol = hypertension, heart failure = beta blocker
timolol = glaucoma, hypertension = beta blocker
lisinopril = hypertension, heart failure = ace inhibitor
enalapril = hypertension, heart failure = ace inhibitor
ramipril = hypertension, heart failure = ace inhibitor
captopril = hypertension, heart failure = ace inhibitor
losartan = hypertension = sartan
valsartan = hypertension, heart failure = sartan
candesartan = hypertension, heart failure = sartan
irbesartan = hypertension = sartan
telmisartan = hypertension = sartan
amlodipine = hypertension, angina = calcium
nifedipine = hypertension, angina = calcium
felodipine = hypertension, angina = calcium
verapamil = hypertension, angina, arrhythmia = calcium
diltiazem = hypertension, angina, arrhythmia = calcium
atorvastatin = cholesterol = statin
simvastatin = cholesterol = statin
rosuvastatin = cholesterol = statin
pravastatin = cholesterol = statin
furosemide = edema, heart failure, hypertension = diuretic, loop
bumetanide = edema, heart failure = diuretic, loop
indapamide = hypertension, edema = diuretic, thiazide
amiodarone = arrhythmia = antiarrhythmic, channel
digoxin = heart failure, arrhythmia = glycoside, antiarrhythmic
warfarin = clots, arrhythmia = anticoagulant, vitamin k
rivaroxaban = clots, arrhythmia = anticoagulant, factor xa
apixaban = clots, arrhythmia = anticoagulant, factor xa
dabigatran = clots, arrhythmia = anticoagulant, thrombin
enoxaparin = clots = anticoagulant, heparin
clopidogrel = clots, angina = antiplatelet
omeprazole = ulcer = ppi
pantoprazole = ulcer = ppi
lansoprazole = ulcer = ppi
famotidine = ulcer = h2
cimetidine = ulcer = h2
ranitidine = ulcer = h2
ondansetron = nausea = antiemetic
granisetron = nausea = antiemetic
amoxicillin = bacteria, urinary = penicillin
ampicillin = bacteria, urinary = penicillin
azithromycin = bacteria = antibiotic, macrolide
erythromycin = bacteria, acne = antibiotic, macrolide
ciprofloxacin = bacteria, urinary = antibiotic, quinolone
levofloxacin = bacteria, urinary = antibiotic, quinolone
ceftriaxone = bacteria = antibiotic, cephalosporin
doxycycline = bacteria, acne, malaria, rosacea = antibiotic, tetracycline
vancomycin = bacteria = antibiotic, glycopeptide
linezolid = bacteria = antibiotic, oxazolidinone
clindamycin = bacteria, acne = antibiotic, lincosamide
isoniazid = tuberculosis = antibiotic, antituberculosis
rifampicin = tuberculosis, bacteria = antibiotic, antituberculosis
fluconazole = fungus, yeast = antifungal, azole
itraconazole = fungus, yeast, skin fungus = antifungal, azole
terbinafine = fungus, skin fungus = antifungal, allylamine
clotrimazole = fungus, yeast, skin fungus = antifungal, azole
aciclovir = herpes = antiviral, nucleoside
oseltamivir = influenza = antiviral, neuraminidase
zanamivir = influenza = antiviral, neuraminidase
zidovudine = hiv = antiviral, antiretroviral, nucleoside
lamivudine = hiv, hepatitis b = antiviral, antiretroviral, nucleoside
dolutegravir = hiv = antiviral, antiretroviral, integrase
efavirenz = hiv = antiviral, antiretroviral, non-nucleoside
ritonavir = hiv, covid = antiviral, antiretroviral, protease
sofosbuvir = hepatitis c = antiviral, polymerase
remdesivir = covid = antiviral, polymerase, nucleoside
chloroquine = malaria, lupus, rheumatoid = antimalarial
mefloquine = malaria = antimalarial
primaquine = malaria = antimalarial
ivermectin = worms, river blindness = antiparasitic
albendazole = worms, tapeworm = antiparasitic
metformin = diabetes = antidiabetic, biguanide
sitagliptin = diabetes = antidiabetic, dpp-4
empagliflozin = diabetes, heart failure = antidiabetic, sglt2
dapagliflozin = diabetes, heart failure = antidiabetic, sglt2
liraglutide = diabetes, obesity = antidiabetic, glp-1
semaglutide = diabetes, obesity = antidiabetic, glp-1
pioglitazone = diabetes = antidiabetic, glitazone
glipizide = diabetes = antidiabetic, sulfonylurea
orlistat = obesity =
fluoxetine = depression, ocd, anxiety = antidepressant, ssri
sertraline = depression, ocd, anxiety = antidepressant, ssri
paroxetine = depression, anxiety, ocd = antidepressant, ssri
citalopram = depression, anxiety = antidepressant, ssri
venlafaxine = depression, anxiety = antidepressant, snri
duloxetine = depression, anxiety, neuropathy = antidepressant, snri
mirtazapine = depression = antidepressant, tetracyclic
olanzapine = schizophrenia, bipolar = antipsychotic, atypical
risperidone = schizophrenia, bipolar = antipsychotic, atypical
quetiapine = schizophrenia, bipolar, depression = antipsychotic, atypical
clozapine = schizophrenia = antipsychotic, atypical
haloperidol = schizophrenia, bipolar = antipsychotic, typical
diazepam = anxiety, epilepsy, spasm, alcohol, insomnia = benzodiazepine, relaxant
lorazepam = anxiety, epilepsy, insomnia = benzodiazepine
alprazolam = anxiety = benzodiazepine
zolpidem = insomnia = hypnotic
zopiclone = insomnia = hypnotic
methylphenidate = adhd = stimulant
carbamazepine = epilepsy, bipolar, neuropathy = anticonvulsant
lamotrigine = epilepsy, bipolar = anticonvulsant
phenytoin = epilepsy = anticonvulsant
topiramate = epilepsy, migraine = anticonvulsant
gabapentin = neuropathy, epilepsy = anticonvulsant
pregabalin = neuropathy, epilepsy, anxiety = anticonvulsant
levodopa = parkinson = dopaminergic, precursor
pramipexole = parkinson, restless legs = dopaminergic, dopamine agonist
rasagiline = parkinson = dopaminergic, mao
donepezil = alzheimer = cholinesterase
rivastigmine = alzheimer, parkinson = cholinesterase
memantine = alzheimer = nmda
sumatriptan = migraine = triptan
rizatriptan = migraine = triptan
ibuprofen = pain, fever, arthritis, headache = nsaid
naproxen = pain, arthritis, fever, headache = nsaid
diclofenac = pain, arthritis = nsaid
celecoxib = pain, arthritis = nsaid, cox-2
morphine = pain = opioid
fentanyl = pain = opioid
tramadol = pain = opioid
methadone = opioids, pain = opioid
naltrexone = opioids, alcohol = opioid antagonist
allopurinol = gout = xanthine
febuxostat = gout = xanthine
colchicine = gout = antigout
salbutamol = asthma = bronchodilator
salmeterol = asthma = bronchodilator
montelukast = asthma, allergy = leukotriene
budesonide = asthma, inflammation = steroid
prednisolone = inflammation, asthma, allergy, rheumatoid = steroid
dexamethasone = inflammation, covid, allergy, asthma = steroid
loratadine = allergy = antihistamine
cetirizine = allergy = antihistamine
fexofenadine = allergy = antihistamine
alendronate = osteoporosis = bisphosphonate
levothyroxine = low thyroid = thyroid hormone
carbimazole = high thyroid = antithyroid
imatinib = leukemia = kinase
erlotinib = lung cancer = kinase
tamoxifen = breast cancer = anticancer, serm
letrozole = breast cancer = anticancer, aromatase
bicalutamide = prostate cancer = anticancer, antiandrogen
paclitaxel = cancer = chemotherapy, taxane
methotrexate = rheumatoid, cancer, psoriasis, leukemia = chemotherapy, antimetabolite
trastuzumab = breast cancer = antibody
adalimumab = rheumatoid, psoriasis, inflammation = antibody, anti-tnf
sildenafil = impotence = pde5
tadalafil = impotence, prostate = pde5
tamsulosin = prostate = alpha
finasteride = prostate, baldness = reductase
fingolimod = sclerosis = immunosuppressant
tacrolimus = rejection = immunosuppressant, calcineurin
latanoprost = glaucoma = prostaglandin
dorzolamide = glaucoma = carbonic
baclofen = spasm = relaxant
disulfiram = alcohol =
varenicline = smoking =
isotretinoin = acne = retinoid
oxybutynin = bladder = antimuscarinic
loperamide = diarrhea =
lidocaine = anesthesia, pain = anesthetic
"""

# --- species: name = common names = what kind of animal it is (none for plants) ---------------------

ANIMAL_KINDS = """
mammal: mammal; mammals
cat: big cat; cat; cats; wild cat; feline; felid; predator; carnivore; mammal
canid: canine; canid; predator; carnivore; mammal
bear: bear; bears; carnivore; mammal
pinniped: pinniped; seal; marine mammal; carnivore; mammal
whale: whale; whales; cetacean; marine mammal; mammal
dolphin: dolphin; whale; cetacean; marine mammal; mammal
deer: deer; cervid; ungulate; herbivore; mammal
equid: equine; equid; ungulate; herbivore; mammal
bovid: bovine; bovid; ungulate; ruminant; herbivore; mammal
camelid: camelid; ungulate; herbivore; mammal
hoofed: ungulate; herbivore; mammal
elephant: pachyderm; herbivore; mammal
rodent: rodent; rodents; mammal
lagomorph: lagomorph; herbivore; mammal
ape: ape; apes; great ape; primate; mammal
monkey: monkey; monkeys; primate; mammal
marsupial: marsupial; marsupials; mammal
mustelid: mustelid; weasel; carnivore; mammal
bird: bird; birds
raptor: bird of prey; raptor; bird
waterfowl: waterfowl; waterbird; bird
corvid: corvid; crow; songbird; bird
songbird: songbird; passerine; bird
flightless: flightless bird; ratite; bird
snake: snake; snakes; serpent; reptile
lizard: lizard; lizards; reptile
turtle: turtle; turtles; reptile
crocodile: crocodilian; reptile
amphibian: amphibian; amphibians
salamander: salamander; salamanders; amphibian
fish: fish; fishes
insect: insect; insects; bug
moth: moth; butterfly; insect
crustacean: crustacean; crustaceans; arthropod; shellfish
mollusc: mollusc; mollusk; molluscs; mollusks
worm: worm; worms; annelid
"""

SPECIES = """
Panthera leo = lion; African lion = cat
Panthera tigris = tiger = cat
Panthera pardus = leopard = cat
Panthera onca = jaguar = cat
Acinonyx jubatus = cheetah = cat
Felis catus = cat; domestic cat; house cat = cat
Canis lupus = wolf; gray wolf; grey wolf = canid
Canis latrans = coyote = canid
Vulpes lagopus = Arctic fox; fox = canid
Ursus arctos = brown bear; grizzly bear; bear; grizzly = bear
Ursus maritimus = polar bear; bear = bear
Ailuropoda melanoleuca = giant panda; panda; panda bear = bear
Procyon lotor = raccoon; common raccoon; racoon = mammal
Sciurus vulgaris = red squirrel; squirrel; Eurasian red squirrel = rodent
Talpa europaea = mole; European mole; common mole = mammal
Crocuta crocuta = spotted hyena; hyena = mammal
Phoca vitulina = harbor seal; seal; common seal; harbour seal = pinniped
Odobenus rosmarus = walrus = pinniped
Tursiops truncatus = bottlenose dolphin; dolphin; common bottlenose dolphin = dolphin
Balaenoptera musculus = blue whale; whale = whale
Megaptera novaeangliae = humpback whale; humpback; whale = whale
Loxodonta africana = African elephant; elephant; African bush elephant = elephant
Elephas maximus = Asian elephant; elephant; Indian elephant = elephant
Giraffa camelopardalis = giraffe = hoofed
Ceratotherium simum = white rhinoceros; white rhino; rhinoceros; rhino = hoofed
Equus caballus = horse; domestic horse = equid
Equus asinus = donkey; ass; African wild ass = equid
Equus quagga = zebra; plains zebra = equid
Bos taurus = cow; cattle; domestic cattle; ox; bull = bovid
Ovis aries = sheep; domestic sheep = bovid
Capra hircus = goat; domestic goat = bovid
Sus scrofa = wild boar; boar; pig; wild pig; wild hog = hoofed
Cervus elaphus = red deer; deer; elk = deer
Rangifer tarandus = reindeer; caribou = deer
Capreolus capreolus = roe deer; deer; European roe deer = deer
Camelus dromedarius = dromedary; camel; Arabian camel; dromedary camel = camelid
Vicugna pacos = alpaca = camelid
Mus musculus = mouse; house mouse; common mouse = rodent
Rattus norvegicus = rat; brown rat; Norway rat = rodent
Castor fiber = beaver; Eurasian beaver; European beaver = rodent
Cavia porcellus = guinea pig; cavy = rodent
Lepus europaeus = hare; European hare; brown hare = lagomorph
Pan troglodytes = chimpanzee; chimp; common chimpanzee = ape
Macaca mulatta = rhesus monkey; rhesus macaque; macaque = monkey
Phascolarctos cinereus = koala; koala bear = marsupial
Vombatus ursinus = wombat; common wombat = marsupial
Erinaceus europaeus = hedgehog; European hedgehog; common hedgehog = mammal
Aquila chrysaetos = golden eagle; eagle = raptor
Falco peregrinus = peregrine falcon; falcon; peregrine = raptor
Tyto alba = barn owl; owl = raptor
Cygnus olor = mute swan; swan = waterfowl
Anas platyrhynchos = mallard; mallard duck; duck; wild duck = waterfowl
Corvus corax = raven; common raven = corvid
Passer domesticus = house sparrow; sparrow = songbird
Turdus merula = blackbird; common blackbird; Eurasian blackbird = songbird
Erithacus rubecula = robin; European robin = songbird
Hirundo rustica = barn swallow; swallow = songbird
Ciconia ciconia = white stork; stork = bird
Pavo cristatus = peacock; peafowl; Indian peafowl = bird
Struthio camelus = ostrich; common ostrich = flightless
Columba livia = pigeon; rock dove; rock pigeon; dove = bird
Crocodylus niloticus = Nile crocodile; crocodile = crocodile
Chelonia mydas = green sea turtle; green turtle; sea turtle; turtle = turtle
Varanus komodoensis = Komodo dragon; Komodo monitor = lizard
Vipera berus = adder; common adder; viper; common European adder; European adder = snake
Rana temporaria = common frog; frog; European common frog = amphibian
Ambystoma mexicanum = axolotl = salamander
Salmo salar = Atlantic salmon; salmon = fish
Salmo trutta = brown trout; trout; sea trout = fish
Esox lucius = northern pike; pike = fish
Cyprinus carpio = carp; common carp; European carp = fish
Gadus morhua = Atlantic cod; cod = fish
Danio rerio = zebrafish; zebra danio = fish
Clupea harengus = Atlantic herring; herring = fish
Apis mellifera = honey bee; honeybee; bee; western honey bee; European honey bee = insect
Bombyx mori = silkworm; silkmoth; silk moth; silkworm moth; domestic silk moth = moth
Danaus plexippus = monarch butterfly; monarch = moth
Musca domestica = housefly; house fly; fly = insect
Drosophila melanogaster = fruit fly; common fruit fly; vinegar fly = insect
Aedes aegypti = yellow fever mosquito; mosquito = insect
Homarus gammarus = European lobster; lobster; common lobster = crustacean
Helix pomatia = Roman snail; snail; Burgundy snail; edible snail; escargot = mollusc
Mytilus edulis = blue mussel; mussel; common mussel = mollusc
Lumbricus terrestris = earthworm; common earthworm; nightcrawler; worm = worm
Quercus robur = oak; English oak; common oak; pedunculate oak; European oak =
Fagus sylvatica = beech; European beech; common beech =
Betula pendula = silver birch; birch =
Pinus sylvestris = Scots pine; pine; Scotch pine =
Picea abies = Norway spruce; spruce; European spruce =
Taxus baccata = yew; English yew; common yew; European yew =
Malus domestica = apple; apple tree =
Prunus persica = peach; peach tree =
Olea europaea = olive; olive tree =
Vitis vinifera = grape; grapevine; common grape vine; grape vine; wine grape =
Oryza sativa = rice; Asian rice =
Triticum aestivum = wheat; bread wheat; common wheat =
Hordeum vulgare = barley =
Solanum tuberosum = potato =
Solanum lycopersicum = tomato =
Daucus carota = carrot; wild carrot; Queen Anne's lace =
Allium cepa = onion =
Allium sativum = garlic =
Helianthus annuus = sunflower; common sunflower =
Bellis perennis = daisy; common daisy; English daisy; lawn daisy =
Taraxacum officinale = dandelion; common dandelion =
Papaver somniferum = opium poppy; poppy =
Digitalis purpurea = foxglove; common foxglove; purple foxglove =
Coffea arabica = coffee; coffee plant =
Urtica dioica = stinging nettle; nettle; common nettle =
Lavandula angustifolia = lavender; English lavender; common lavender =
"""

# --- places: country; continent: towns ---------------------------------------------------------------

COUNTRIES = """
Norway: Norway
Sweden: Sweden
Finland: Finland
Denmark: Denmark
Germany: Germany; Federal Republic of Germany
Netherlands: Netherlands; the Netherlands; Holland
Poland: Poland
Czech Republic: Czech Republic; Czechia
Hungary: Hungary
Romania: Romania
Italy: Italy
France: France
Spain: Spain
Portugal: Portugal
Greece: Greece
Turkey: Turkey; Türkiye; Turkiye
Russia: Russia; Russian Federation
Ukraine: Ukraine
Japan: Japan
South Korea: South Korea; Korea; Republic of Korea
China: China; People's Republic of China; PRC
India: India
Pakistan: Pakistan
Iran: Iran; Islamic Republic of Iran; Persia
Indonesia: Indonesia
Philippines: Philippines; the Philippines
Kenya: Kenya
Nigeria: Nigeria
Tanzania: Tanzania
Brazil: Brazil
Mexico: Mexico
Peru: Peru
England: United Kingdom; England; UK; Great Britain; Britain
United Kingdom: United Kingdom; UK; England; Great Britain; Britain
United States: United States; USA; US; United States of America; America; U.S.
Canada: Canada
Switzerland: Switzerland
Austria: Austria
Belgium: Belgium
Ireland: Ireland; Republic of Ireland
Australia: Australia
Taiwan: Taiwan; Republic of China
Malaysia: Malaysia
Saudi Arabia: Saudi Arabia
South Africa: South Africa
Cuba: Cuba
"""

CONTINENTS = """
europe: Europe
asia: Asia
europe and asia: Europe; Asia; Eurasia
africa: Africa; East Africa; West Africa
south america: South America; Latin America; Americas; America
north america: North America; Central America; Latin America; Americas; America
"""

TOWNS = """
Norway; europe: Stavanger, Drammen, Haugesund, Lillehammer, Sarpsborg
Sweden; europe: Uppsala, Karlstad, Halmstad, Sundsvall, Eskilstuna
Finland; europe: Lappeenranta, Rovaniemi, Savonlinna, Joensuu, Kokkola
Denmark; europe: Fredericia, Aalborg, Esbjerg, Roskilde, Silkeborg
Germany; europe: Regensburg, Bielefeld, Wuppertal, Augsburg, Rostock
Netherlands; europe: Eindhoven, Groningen, Apeldoorn, Nijmegen, Enschede
Poland; europe: Katowice, Szczecin, Bydgoszcz, Olsztyn, Sosnowiec
Czech Republic; europe: Olomouc, Pardubice, Ostrava, Liberec, Jihlava
Hungary; europe: Debrecen, Szeged, Miskolc, Szolnok, Szombathely
Romania; europe: Craiova, Oradea, Suceava, Hunedoara, Mangalia
Italy; europe: Perugia, Bergamo, Cremona, Ravenna, Brescia
France; europe: Grenoble, Perpignan, Limoges, Poitiers, Montauban
Spain; europe: Valladolid, Badajoz, Zaragoza, Pontevedra, Algeciras
Portugal; europe: Coimbra, Aveiro, Leiria, Amadora, Matosinhos
Greece; europe: Ioannina, Kalamata, Larissa, Kavala, Komotini
Turkey; europe and asia: Trabzon, Erzurum, Malatya, Kayseri, Antalya
Russia; europe and asia: Voronezh, Smolensk, Murmansk, Irkutsk, Yakutsk
Ukraine; europe: Poltava, Ternopil, Vinnytsia, Kharkiv, Kherson
Japan; asia: Kumamoto, Matsuyama, Kagoshima, Kanazawa, Niigata
South Korea; asia: Gangneung, Changwon, Cheongju, Chuncheon, Daejeon
China; asia: Zhengzhou, Hangzhou, Changchun, Shenyang, Changsha
India; asia: Coimbatore, Vadodara, Ludhiana, Madurai, Gorakhpur
Pakistan; asia: Rawalpindi, Faisalabad, Bahawalpur, Sialkot, Peshawar
Iran; asia: Isfahan, Mashhad, Hamadan, Tabriz, Kerman
Indonesia; asia: Surabaya, Semarang, Makassar, Palembang, Balikpapan
Philippines; asia: Zamboanga, Tacloban, Dumaguete, Cabanatuan, Antipolo
Kenya; africa: Mombasa, Eldoret, Malindi, Kisumu, Nakuru
Nigeria; africa: Maiduguri, Abeokuta, Onitsha, Kaduna, Ilorin
Tanzania; africa: Morogoro, Arusha, Mwanza, Iringa, Shinyanga
Brazil; south america: Curitiba, Sorocaba, Londrina, Campinas, Piracicaba
Mexico; north america: Hermosillo, Zacatecas, Acapulco, Cuernavaca, Tlaxcala
Peru; south america: Arequipa, Huancayo, Chiclayo, Iquitos, Cajamarca
England; europe: Wolverhampton, Huddersfield, Nottingham, Scunthorpe, Leicester
"""

# --- companies: name = country of its founding = what it makes or does -------------------------------

INDUSTRIES = """
cars: cars; car; automotive; automobile; automobiles; auto; vehicles; car manufacturing; motor vehicles; automaker;
  motor; motor industry
trucks: trucks; commercial vehicles; automotive; buses; vehicles
motorcycles: motorcycles; motorbikes; motorcycle; scooters; automotive
tyres: tires; tyres; tire; tyre; rubber; automotive
aircraft: aerospace; aircraft; airplanes; aviation; aeroplanes; defense; defence; space
airline: airline; airlines; aviation; air travel; flights; transportation; transport; travel
shipping: shipping; logistics; container shipping; transport; transportation; maritime
electronics: electronics; consumer electronics; electronic; televisions; technology; tech; home electronics
phones: mobile phones; phones; telecommunications; smartphones; cell phones; telecom; electronics; technology;
  telecoms
networks: telecommunications; telecom; telecoms; mobile; mobile network; communications; telephone
computers: computers; computer; computer hardware; technology; electronics; laptops; PCs; IT; hardware
chips: semiconductors; semiconductor; chips; microchips; processors; computer chips; technology; graphics cards; GPUs
software: software; technology; tech; information technology; IT; IT services; computer software; consulting;
  enterprise software
internet: internet; technology; tech; online services; internet services; web; software
search: search engine; search engines; search; internet search; web search
social: social media; messaging; social networking
shop: retail; supermarket; supermarkets; grocery; groceries; stores; department stores; retailer; discount stores;
  wholesale
ecommerce: e-commerce; online shopping; online retail; retail; technology; internet; ecommerce; electronic commerce
fashion: fashion; clothing; clothes; apparel; luxury; luxury goods; luxury fashion; retail; textile
sportswear: sportswear; shoes; sports; sporting goods; clothing; athletic shoes; footwear; apparel; sports apparel;
  athletic apparel; sports equipment; sneakers
watches: watches; watchmaking; watch; luxury; luxury goods; luxury watches; timepieces
crystal: crystal; jewelry; jewellery; glass; luxury goods; luxury; fashion
cosmetics: cosmetics; beauty; personal care; skin care; skincare; makeup; consumer goods
beer: beer; brewing; brewery; beverages; beverage; alcohol; drinks; alcoholic beverages; brewer
spirits: spirits; rum; alcohol; beverages; drinks; alcoholic beverages; beverage; distilling; liquor
food: food; food and beverage; dairy; snacks; consumer goods; foods; food processing; food and drink; beverages; food
  products
chocolate: chocolate; confectionery; sweets; candy; food; confections; chocolates
coffee: coffee; coffeehouse; coffee shops; food; beverages; restaurants; food and beverage; cafe
household: consumer goods; household goods; household products; detergents; cleaning products; chemicals; adhesives;
  personal care; soap
appliances: home appliances; appliances; household appliances; electronics; washing machines; domestic appliances;
  kitchen appliances; vacuum cleaners
toys: toys; toy; toy manufacturing; toymaking; games; entertainment
games: video games; games; gaming; entertainment; electronics; video game; consoles; software
drugs: pharmaceuticals; pharmaceutical; drugs; medicine; medicines; healthcare; health care; pharma; biotechnology;
  vaccines
chemicals: chemicals; chemical; pharmaceuticals; agriculture
oil: oil; oil and gas; energy; petroleum; gas; natural gas; gasoline
energy: energy; electricity; utilities; power; utility; renewable energy; electric utility
wind: wind turbines; wind power; wind energy; renewable energy; energy
engineering: engineering; industrial; electronics; electrical engineering; technology; manufacturing; conglomerate;
  automation; industrial machinery
machines: construction equipment; machinery; heavy machinery; heavy equipment; construction; mining equipment
trains: trains; rail; railway; aerospace; aircraft; transportation; rail transport; planes
film: photography; film; cameras; imaging; camera; photographic film; photographic
copiers: copiers; printers; photocopiers; office equipment; printing; technology; copying; document technology
music: musical instruments; music; motorcycles; electronics; pianos
streaming: music streaming; music; streaming; audio streaming; entertainment; technology; podcasts; media; music
  streaming service
video: streaming; video streaming; entertainment; movies; films; television; media; film
banking: banking; bank; finance; financial services; financial; banks
tools: power tools; tools; construction; engineering; automotive; home appliances; appliances
security: cybersecurity; antivirus; software; computer security; security; antivirus software; internet security;
  technology
hotels: hotels; hospitality; hotel; travel; lodging
glasses: eyewear; glasses; sunglasses; fashion; optics; spectacles
bicycles: bicycle parts; bicycles; cycling; bicycle components; bicycle; fishing tackle; sports equipment
healthcare: healthcare; health care; medical; dialysis; medicine; hospitals; medical technology; pharmaceuticals
audio: audio; headphones; microphones; audio equipment; electronics; consumer electronics
footwear: footwear; shoes; sandals; flip-flops; fashion; sneakers
knives: knives; cutlery; pocket knives; Swiss army knives; watches; tools
garden: outdoor power equipment; chainsaws; lawn mowers; garden tools; power tools; gardening; forestry; motorcycles
pumps: pumps; pump; water technology; water pumps; engineering; manufacturing
tea: tea; teas; food; beverages; beverage; food and beverage; drinks
razors: razors; shaving; personal care; safety razors; grooming; consumer goods; shaving products
toothpaste: toothpaste; oral care; oral hygiene; personal care; consumer goods; consumer products; dental care
peripherals: computer peripherals; computer accessories; electronics; mice; keyboards; technology; hardware; computer
  hardware
"""

COMPANIES = """
Toyota = Japan = cars
Nissan = Japan = cars
Subaru = Japan = cars
Suzuki = Japan = cars, motorcycles
Kawasaki = Japan = motorcycles, engineering
Yamaha = Japan = music, motorcycles
Panasonic = Japan = electronics, appliances
Toshiba = Japan = electronics, computers
Hitachi = Japan = engineering, electronics
Fujitsu = Japan = computers, software
Shiseido = Japan = cosmetics
Nintendo = Japan = games
Konami = Japan = games
Komatsu = Japan = machines
Samsung = South Korea = electronics, phones, chips
Hyundai = South Korea = cars
Huawei = China = phones, networks
Lenovo = China = computers
Xiaomi = China = phones, electronics
Tencent = China = internet, social, games
Alibaba = China = ecommerce
Baidu = China = internet, search
Foxconn = Taiwan = electronics
Infosys = India = software
Wipro = India = software
Petronas = Malaysia = oil
Siemens = Germany = engineering
Henkel = Germany = household, cosmetics
Adidas = Germany = sportswear
Porsche = Germany = cars
Volkswagen = Germany = cars
Lufthansa = Germany = airline
Haribo = Germany = chocolate
Novartis = Switzerland = drugs
Swatch = Switzerland = watches
Logitech = Switzerland = peripherals
Swarovski = Austria = crystal
Philips = Netherlands = electronics, appliances
Heineken = Netherlands = beer
Unilever = United Kingdom, Netherlands = household, food
Nestle = Switzerland = food, chocolate
Ferrari = Italy = cars
Lamborghini = Italy = cars
Pirelli = Italy = tyres
Ferrero = Italy = chocolate
Barilla = Italy = food
Versace = Italy = fashion
Benetton = Italy = fashion
Luxottica = Italy = glasses
Ducati = Italy = motorcycles
Piaggio = Italy = motorcycles
Iberdrola = Spain = energy
Repsol = Spain = oil
Santander = Spain = banking
Embraer = Brazil = aircraft
Petrobras = Brazil = oil
Volvo = Sweden = cars, trucks
Scania = Sweden = trucks
Ericsson = Sweden = networks, phones
Electrolux = Sweden = appliances
Spotify = Sweden = streaming
Nokia = Finland = phones, networks
Rovio = Finland = games
Fiskars = Finland = tools, household
Carlsberg = Denmark = beer
Maersk = Denmark = shipping
Vestas = Denmark = wind
Equinor = Norway = oil, energy
Telenor = Norway = networks
Michelin = France = tyres
Renault = France = cars
Peugeot = France = cars
Danone = France, Spain = food
Carrefour = France = shop
Lacoste = France = fashion, sportswear
Airbus = France, Germany, Netherlands = aircraft
Solvay = Belgium = chemicals
Skoda = Czech Republic = cars
Vodafone = United Kingdom = networks
Tesco = United Kingdom = shop
Burberry = United Kingdom = fashion
Dyson = United Kingdom = appliances
Ryanair = Ireland = airline
Qantas = Australia = airline
Atlassian = Australia = software
Aeroflot = Russia = airline
Gazprom = Russia = oil
Kaspersky = Russia = security
Yandex = Russia = internet, search
Bombardier = Canada = trains, aircraft
Shopify = Canada = ecommerce, software
Intel = United States = chips
Nvidia = United States = chips
Boeing = United States = aircraft
Pfizer = United States = drugs
Xerox = United States = copiers
Kodak = United States = film
Netflix = United States = video
Starbucks = United States = coffee
Walmart = United States = shop
Costco = United States = shop
Mattel = United States = toys
Hasbro = United States = toys
Marriott = United States = hotels
Aramco = Saudi Arabia = oil
Sasol = South Africa = chemicals, oil
Mitsubishi = Japan = cars, engineering
Daihatsu = Japan = cars
Shimano = Japan = bicycles
Kikkoman = Japan = food
Bandai = Japan = toys, games
Capcom = Japan = games
Takeda = Japan = drugs
Rakuten = Japan = ecommerce
Beiersdorf = Germany = cosmetics
Infineon = Germany = chips
Fresenius = Germany = healthcare
Sennheiser = Germany = audio
Birkenstock = Germany = footwear
Vorwerk = Germany = appliances
Victorinox = Switzerland = knives
Syngenta = Switzerland = chemicals
Maserati = Italy = cars
Lavazza = Italy = coffee
Campari = Italy = spirits
Olivetti = Italy = computers
Parmalat = Italy = food
Telefonica = Spain = networks
Inditex = Spain = fashion
Husqvarna = Sweden = garden, tools
Kongsberg = Norway = aircraft
Finnair = Finland = airline
Marimekko = Finland = fashion
Lundbeck = Denmark = drugs
Grundfos = Denmark = pumps
Citroen = France = cars
Cartier = France = watches, crystal
Chanel = France = fashion, cosmetics
Barclays = United Kingdom = banking
Cadbury = United Kingdom = chocolate
Twinings = United Kingdom = tea
Guinness = Ireland = beer
Lululemon = Canada = sportswear
Mondelez = United States = food, chocolate
Gillette = United States = razors
Chrysler = United States = cars
Raytheon = United States = aircraft
Motorola = United States = phones, networks
Hershey = United States = chocolate
Skechers = United States = footwear
Colgate = United States = toothpaste, household
Bacardi = Cuba = spirits
"""

# --- morphemes ---------------------------------------------------------------------------------------
# "-" is the empty one.

# A drug's twin keeps its ending, so that the name says no more and no less about the class than a real one's.
DRUG_ENDINGS = """
olol dilol pril artan dipine statin semide tanide pamide arone oxin farin xaban gatran parin grel prazole tidine setron
cillin thromycin mycin floxacin axone cycline zolid niazid picin conazole afine trimazole clovir amivir vudine
tegravir virenz navir buvir desivir quine mectin endazole formin gliptin gliflozin glutide glitazone pizide istat
oxetine traline pram faxine tazapine zapine peridone tiapine peridol azepam azolam pidem iclone phenidate mazepine
trigine toin ramate pentin balin dopa pexole giline pezil stigmine antine triptan profen oxen fenac coxib phine tanyl
adol adone trexone purinol xostat chicine butamol meterol lukast esonide olone methasone tadine rizine fenadine
dronate yroxine mazole tinib oxifen ozole lutamide taxel trexate zumab mumab afil losin steride imod olimus prost
olamide ofen iram icline tinoin tynin amide caine amil azem ine
"""

DRUG_STARTS = """
adal ambr apr ater aval barn bel ben betr bis brom bup cal calf cam cand car carb cef cel cilt cim cin clem clob clor
cor cort cyp dan dapr def del des dic dip dom dor dox dron dul elet emb enc epl erg esm eth fam fel felb fen fex fil
flec flor flud fos gab gal gef glim gran hal hem hydr ib ind ipr isr ket lab lam lans lat lef lem let lin lof lor lur
mal map mec mel mem mer mes met mic min mir mod mon nab nad nal nap nat neb nel nic nim nit nor olm ond orl ost pal
pan par pel pent per phen pim pir prad praz prim prob quin rab ral ran rel rem rib rif ril ris rof rop ros sal sel ser
sev sil sol sor sul sum tac tad tal tap tel ter tic tim tir tiz tof top tor tras trel trop ul urs val var vel ven ver
vil vor zal zol zon
"""

DRUG_MIDDLES = """
- ab ad al am an ar at av ed el em en er et ev ex ib id il im in ir iv od ol om on or ov ox ub ul um ur adel alor amid
anol arex avel avir edim elan elor emur enix eral erod etol evan idel ilan ilor imar inel irad irol ivan ivor odan
olan olim omar onex oral oril orex ovel udal ulan umer urel uvan
"""

GENUS_STARTS = """
Abr Acar Aeg Alp Amb Ancr Arp Asp Astr Bacr Balt Barb Berm Bom Bryst Buc Calb Camb Capr Carph Casp Catr Cerc Cest
Chalt Cherm Chorm Cic Clav Colb Comb Corph Cosm Crab Crepr Crocr Cupr Cyb Cyph Dact Demb Dict Dorp Drom Ecr Elaph Empr
Epr Erb Eub Eurp Fab Fic Fract Gamb Gast Gemb Glauc Gomph Grac Gyr Hacr Halc Hamp Hect Helc Hepr Hest Hipp Holc Hom
Hyb Ichr Jac Labr Lamp Lar Leuc Limp Lop Lyct Macr Magr Malb Marc Mecr Melph Mesp Micr Molp Morph Muc Myc Myrt Nact
Naph Nepr Nict Obr Ocr Omph Opr Orch Oryct Osm Pach Palp Pamb Parc Pect Pelp Perc Petr Phac Phil Phyl Pic Plac Plec
Poph Porp Prac Prosp Pyct Rac Remp Rhac Rhob Roph Sac Sarp Sceb Scop Sepr Simp Sorp Spar Sphec Stac Steph Strab Subr
Sylp Syr Tacr Tamp Taph Teph Terp Thac Themp Thyr Tomp Trach Trep Troph Typr Umbr Upr Vac Verp Vimp Xyr Zamp
"""

GENUS_MIDDLES = """
- ab ac al am an ar as at ed el em en er es et ic id il im in ip ir is it od ol om on op or os ot ul um un ur acit
alid amit anor arid asel atim ecor elan emor enid eril etol idal inor irel itan odal olim onar oril ulan urid
"""

GENUS_ENDS = """
masculine: us us us us us us us eus os es er
feminine: a a a a a ia ea is era ina
neuter: um um um ium
"""

# Latin adjectives and nouns that have one form (but for -is, -e), and stems that take -us, -a or -um.
EPITHETS = """
rex dux rapax tenax simplex bicolor tricolor versicolor elegans repens nitens princeps cursor pastor viator piscator
venator borealis australis orientalis occidentalis vulgaris gracilis nobilis viridis arvensis palustris agilis fragilis
humilis mirabilis pratensis terrestris insularis lacustris nivalis dorsalis laevis grandis brevis dulcis tristis mollis
fortis fluvialis fluviatilis montanensis campestris rupestris caelestis autumnalis vernalis aestivalis hiemalis
nocturnalis litoralis tropicalis virginalis septentrionalis meridionalis
"""
EPITHET_STEMS = """
nan alb flav fulv glauc cinere ferrugine punctat maculat striat cristat barbat caudat aurat argentat gigante pallid
obscur cornut dentat hirsut lanat magn parv rotund velat vittat zonat montan silvatic marin nocturn squamos spinos
undulat venust purpure coronat lineat reticulat nitid splendid torquat laet nov rar rect pict alt lat long crass dur
fusc can badi vag saev torv acut plan ruf mut cav sicc limos arenos saxos fontan umbros solitari aquatic pacific
atlantic arctic nemoros mucronat caerule ochrace carne coccine lute rose aure herbace
"""

# flavour: starts / middles / ends
TOWN_FLAVOURS = """
Norway: Brek Skarv Tveng Hjor Grav Snelt Ulv Frost Kvel Drang Mjol Ving Tork Rond Hvel Gjes Bryn Lodd Krag Tjel / - e
  en er / vik sund heim dal stad nes berg haug
Sweden: Brask Holm Vret Tjur Gran Skelt Dunk Lerv Osk Hamn Rusk Viks Tuv Mard Knip Silv Glad Trosk Elv Hesk / - a e er
  inge / stad sala vall hult torp fors by sund
Finland: Kelo Rauta Viita Sarka Tuoma Hallu Lempi Nurme Paaso Oura Hauki Some Piela Mutka Ruuna Tervo Ilma Kuva Lieto
  Vehka / - s n la / ranta niemi koski mpere vaara nsaari kio pera
Denmark: Brand Skal Hvid Gamm Tors Fjel Kald Munk Hel Drag Silt Bork Rods Glum Spen Ulk Vron Kerk Tolv Hals / - e er
  inge / borg strup lev bjerg holm sted lund rup
Germany: Brelk Strum Hagel Wend Falk Griem Lauz Quell Drost Kelm Torn Zwick Luch Pfann Welt Mulm Gratz Heim Rosk Vohr
  / - en er el / burg hausen berg feld stadt dorf tal au
Netherlands: Brug Velm Dren Loos Gelt Harn Klun Spaar Zoet Trom Rood Vlag Bous Eem Stry Wolk Gran Tiel Doek Hurk / -
  er e en / hoven dam dijk veen burg wolde horst ingen
Poland: Brz Krasz Grodz Wolan Rusz Szczyp Jaw Milek Drosz Kobr Twar Mirosz Gniew Wierz Olsz Kelc Bydz Trzel Swarz
  Plask / - ow en ol ar / owice ice ecin sko yn goszcz nica iec
Czech Republic: Kral Hrel Brn Trut Jesk Slavk Vrch Lit Zdar Krup Chrud Strak Telk Rok Pard Olm Ostr Mlaz Dobr Svit / -
  ov en ol / ice ava nice ec sko ubice in ouc
Hungary: Szeg Nagyk Kis Balat Miskt Csong Hal Zalt Tisk Kaput Debr Gyork Sark Kerk Mezk Dunt Szol Bek Szomb Varg / - a
  e o / var hely falva ecen sar olc haz telek
Romania: Brast Crais Dors Sucl Hun Tulv Mold Carn Frun Slob Radv Bist Lug Turn Bug Zarn Salc Mang Orl Vasc / - ul il
  ar ed / esti eni eta ova ani ioara oara iu
Italy: Brov Montal Cast Fern Trev Gall Verb Sorr Lam Marn Torv Cav Vell Orv Gros Palv Rovig Perg Crem Berz / - er ol
  an am / ino ano eto ara ola ona ello enna
France: Brev Chal Gren Verd Lav Font Marg Ral Limon Sauv Charn Vill Bourg Garv Dom Poiv Perl Ambr Toul Noy / - er in
  ol ob / ac ville ignan ouse ence iers oges ay
Spain: Brez Alm Vald Zar Torr Morl Guad Burg Cant Alc Benz Lor Sald Cest Oron Tald Badr Hues Vall Zarg / - al er an ad
  / illo ajoz eda ona oza uela anza olid
Portugal: Brag Vis Coim Alv Lour Fern Pen Tav Cald Mourz Serp Belm Arr Oliv Gond Tom Leir Avel Sard Trof / - al er an
  / eira elo oso ande bra eu ida inho
Greece: Kalv Lar Ther Myr Patr Ken Drov Vask Xan Pel Dram Kerv Mes Zar Filk Argol Trik Nav Levr Volk / - ak an ir am /
  ada issa ina os ata ala eria ikos
Turkey: Kar Ask Denz Balt Yenk Koc Sar Tor Gul Kirs Mal Dur Bey Cam Sil Alt Erz Kay Tuzl Trab / - a e i u / seri hisar
  pinar tya zum dere saray zon
Russia: Brask Volg Petr Kamn Sverd Tob Ust Krasn Chel Nizhn Orl Murk Yarsk Zel Tverd Bog Tarn Smol Irk Vorsk / - o e
  in / grad ovsk insk gorsk utsk nezh ansk ensk
Ukraine: Poltr Kam Zhyt Cherk Vink Khm Terk Dnip Melk Kriv Bil Sum Rivk Ross Dol Myrh Zbor Kol Harsk Tern / - o iv en
  / pil hirsk kiv ytsia ava opil ychi son
Japan: Noke Rumi Sote Mehi Kuza Haze Tomi Yase Wake Isu Nura Fuke Shige Taru Asa Kago Mina Kiri Oshi Kuma / - na ka mi
  shi / yama saki hara mura zawa gata moto shima
South Korea: Gyeom Cheol Hwan Mun Seok Tae Pyeon Nok Deung Jong Baek Ryeo Wol Geum Yang Sok Dam Heung Gang Dae / - hwa
  gye no / ju san cheon won hang jin yeong neung
China: Zhuan Qiong Heng Lang Tuan Shuo Feng Kuan Rong Xuan Chong Liu Guan Song Ning Dang Yao Zheng Qing Hang / - ga
  jia li / zhou yang shan dao ling jiang ming sha
India: Bramb Jalk Kod Rath Mand Sulv Vir Chand Narl Ghaz Pand Tirv Kald Dhar Mall Gulb Sagr Ludh Vad Coimb / - a i u
  ar / pur garh nagar iana gaon ore patti atore
Pakistan: Mur Sial Qad Jhel Bahl Gulk Nash Raw Khar Mard Tal Faz Hab Zar Loh Chakl Kas Noor Pesh Bahaw / - a i al /
  abad kot pur garh wal pindi awar alpur
Iran: Sham Kerv Ard Zanj Tabr Mashk Khor Bij Nish Golp Rav Fal Hez Savl Qar Dez Isf Borj Yazl Marv / - a e an / abad
  ahan hadan iz shad man und var
Indonesia: Sura Banda Mara Pela Keda Tuba Simba Lampa Ceri Goro Pasa Rembo Niko Wono Balik Luma Sidu Muro Sema Maka /
  - ng m r la / karta baya rang sari jati papan bang ssar
Philippines: Zamb Tac Bag Lus Calv Mand Dum Pand Sur Kab Leg But Marl Cat Tagb Bul Ilo Mal Sib Dar / - an al ag o /
  ban loban gao uio guete anga iran ilo
Kenya: Mom Kis Eld Nak Mal Lod Kit Nyel Ger Wam Olm Kab Thar Merl Nar Mwi Turk Kak Nand Chep / - a o i u / basa doret
  moru suru kuru mu lindi gari
Nigeria: Abe Onu Ilo Ada Kadu Ogbo Enu Maidu Sago Zari Ibe Oke Bauch Lafi Gombi Owe Ika Ede Aro Umu / - ri ku do /
  kuta gun rin sha bodo na tsha guri
Tanzania: Moro Mwa Iri Dodo Aru Tabo Kigo Songe Lind Mbe Shin Kila Ruvu Nja Same Kond Masa Biha Ulan Tuku / - ri nga
  ma / goro nza sha ndi eya nga ranga kuru
Brazil: Curi Soro Camp Londr Itap Jund Pira Barb Marl Arar Jab Tau Gua Part Itu Bot Cata Uber Jaca Manu / - ma ra na /
  tiba caba inas quara guaba rina us beba
Mexico: Zaca Tlax Cuer Tehu Aca Oxa Tolu Coza Ixta Chim Maza Jala Tepo Nau Huau Xico Tux Herm Puel Tiju / - l ma chi /
  pulco tecas osillo huaca calco tlan mila ana
Peru: Arel Huan Chic Iqui Cusk Ayac Caja Moy Tara Puc Jul Hual Apur Lam Yur Chin Paca Sat Otuz Mar / - ma ca ra /
  quipa cayo layo tos cucho marca co pampa
England: Wolv Hudd Scunt Brack Thorn Ashl Gels Harp Stan Wick Penr Lud Cros Elm Tarr Oxl Bark Dunt Nottl Leic / - er
  ing le en / hampton field horpe ham ton bury worth ester
"""

COMPANY_FLAVOURS = """
japanese: Haro Kano Toshu Mizu Saku Nori Taka Yoshu Kuro Shima Fuju Rino Komo Hoku Sane Mori Naku Sumi Tomu Hide Pana
  Nis Suba Hon / - na ra ka mi n / ta da moto baki saki sei ra ken ri zu kon tsu sonic
german: Alb Ammer Bach Bald Beck Bern Bert Bols Brand Brem Bruck Daum Dietz Drag Falk Fend Fran Gel Gess Grot Hann
  Hein Hell Hent Hild Holz Kel Kess Kreu Kron Land Leng Lind Lutz Mann Mar Mell Merk Moll Nied Nol Ost Paul Pel Porz
  Rau Rein Ries Rosen Sal Schal Schell Sieg Stah Stein Stoll Strau Thal Trum Vogt Volk Wal Weid Wend Wint Zell / - e
  er en in / el er ens mann ann ix berg is ling ert sche ker ler tis ner dorf hoff as us ke
italian: Alb And Barz Bell Benv Bert Bian Bord Brag Brun Camp Carl Carp Cas Cast Cer Colt Cor Dalt Dom Fab Fan Ferr
  Fil Fium Font Gal Gall Gar Gran Grim Land Lat Lav Lor Luc Mal Mar Mars Maz Mont Mor Nard Orl Pal Par Pel Per Pin
  Port Prov Ric Rin Ros Sald Sal San Sant Sard Tav Tell Tor Trem Vel Verd Ves Vit Vor Zan / - ar er in ol / etti ini
  ello ara ia oni ero aldi osa ucci elli ella otti ano as na
nordic: Skan Elk Vard Norv Telv Bergs Fisk Holm Lind Rov Mark Sten Telm Haver Gran Ulv Konr Sand Vik Eric Carl Nok / -
  a e i o / sson lux ia or vik dal na tek ra berg en fy
western: Abr Ald Alt Amb Ard Ast Bald Bar Bel Ben Bold Bor Brad Bran Bur Cal Cam Can Carl Cas Chal Chan Cor Corv Cran
  Dal Dan Dar Del Den Dor Dran Dun Ed Elm Elv Em Far Fen Fin Gal Gar Gil Glen Gran Had Hal Har Hel Hol Kel Ken Kin Lan
  Lar Len Lin Lor Lum Mal Mar Mel Mer Mor Nal Nel Nor Nov Orb Pal Pan Par Pax Pel Qual Ral Ran Rev Ros Ryk Sal San Sel
  Sol Stan Ster Syn Tal Tan Tel Ten Tor Tran Trin Vel Ver Vin Wal Wen Wes Wil Win Yor / - a e i o an er en in / tron
  ix on era ica is us o ence ara ell ton ada ify ary eot ault mart ing izer co ard ett dex sys well man ey le son as
  os na ki
"""
